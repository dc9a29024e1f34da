package main

import (
	"net/http"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCommands_RevisionConflict verifies that a command that reads an object and writes a part of it changes nothing if the object changed
// after the read. The error names the actor and the fields of that change, and the next step.
func TestCommands_RevisionConflict(t *testing.T) {
	t.Parallel()
	w := newTestServer(t)
	ctx := t.Context()
	hook := require.Value(w.operator.Webhooks.Create(ctx, client.WebhookPut{URL: "https://hooks.example/", Alarms: true}))(t)
	var conflict func() error // a change by a different client between the command's read and its write
	proxyURL := startProxy(t, w.addr.Admin, func(r *http.Request) {
		if r.Method != http.MethodGet && conflict != nil {
			assert.NoError(t, conflict())
		}
	})
	for _, c := range []struct {
		args     []string
		conflict func() error
		want     []string
	}{
		{[]string{"account", "set", "shop", "--name", "Mine"}, func() error {
			return w.operator.Accounts.SetRulesEnabled(ctx, "shop", false)
		},
			[]string{"admin changed jump_open at", "nothing was changed",
				"check its current state (qrjump account show shop)", "run the command again"}},
		{[]string{"account", "set", "newcomer", "--kind", "mini_program"}, func() error {
			return w.operator.Accounts.Set(ctx, "newcomer", client.AccountPut{Kind: "mini_program", Name: "Theirs"})
		}, []string{"admin created it at", "qrjump account show newcomer"}},
		{[]string{"account", "appearance", "shop", "--help-link", "https://mine.example/"}, func() error {
			_, err := w.operator.Accounts.SetAppearance(ctx, "shop", client.AppearancePut{Help: "https://theirs.example/"})
			return err
		}, []string{"changed", "qrjump account appearance shop"}},
		{[]string{"webhook", "update", "1", "--no-enabled"}, func() error {
			put := hook.Webhook.Put()
			put.URL = "https://theirs.example/"
			_, err := w.operator.Webhooks.Update(ctx, hook.Webhook.ID, put, nil)
			return err
		}, []string{"admin changed url at", "qrjump webhook list"}},
		{[]string{"setting", "set", "publish_quota", "9"}, func() error {
			return w.operator.Settings.Update(ctx, map[string]any{"publish_quota": 7})
		}, []string{"admin changed publish_quota at", "qrjump setting list publish_quota"}},
	} {
		conflict = c.conflict
		args := append(c.args, "--admin-server", proxyURL, "--server", w.addr.Wire, "--admin-token", w.vars["TOKEN"])
		code, out, errs := command(ctx, args...)
		assert.True(t, code == exitRefused && out == "", "%v: exit %d, want %d: %s%s", c.args, code, exitRefused, out, errs)
		for _, text := range c.want {
			assert.Contains(t, errs, text, "error of %v", c.args)
		}
		conflict = nil
		code, _, errs = command(ctx, args...)
		assert.True(t, code == exitDone, "%v, second run: exit %d, want %d: %s", c.args, code, exitDone, errs)
	}
	shop, err := w.operator.Accounts.Get(ctx, "shop")
	assert.True(t, err == nil && !shop.JumpOpen && shop.Name == "Mine", "shop = %+v, %v, want both changes", shop, err)
}
