package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 28: a command that reads something and changes a part of it changes nothing where
// somebody was faster, and says who, and what to do.
func TestCommands_RevisionConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	hook, err := w.operator.Webhooks.Create(ctx, client.WebhookPut{URL: "https://hooks.example/", Alarms: true})
	require.NoError(t, err)
	admin, err := url.Parse(w.addr.Admin)
	require.NoError(t, err)
	var faster func() error // somebody else, right before the change
	forward := httputil.NewSingleHostReverseProxy(admin)
	between := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && faster != nil {
			assert.NoError(t, faster())
		}
		forward.ServeHTTP(rw, r)
	}))
	t.Cleanup(between.Close)
	for _, c := range []struct {
		args   []string
		faster func() error
		says   []string
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
		faster = c.faster
		args := append(c.args, "--admin-server", between.URL, "--server", w.addr.Wire, "--admin-token", w.found["TOKEN"])
		code, out, errs := command(ctx, args...)
		assert.True(t, code == exitRefused && out == "", "%v: exit %d: %s%s", c.args, code, out, errs)
		for _, text := range c.says {
			assert.True(t, strings.Contains(errs, text), "%v does not say %q: %s", c.args, text, errs)
		}
		faster = nil
		code, _, errs = command(ctx, args...)
		assert.True(t, code == exitDone, "%v, once more: exit %d: %s", c.args, code, errs)
	}
	shop, err := w.operator.Accounts.Get(ctx, "shop")
	assert.True(t, err == nil && !shop.JumpOpen && shop.Name == "Mine", "one flag changes one thing: %+v, %v", shop, err)
}
