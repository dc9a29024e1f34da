package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestReload_NonBlocking blocks a reload of the replica before its end. Changes on the node must be acknowledged meanwhile, and be visible
// to scans both during the reload and after it.
func TestReload_NonBlocking(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		w := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database = p.database }})
		id := w.apply("held", 10_000)
		w.OK("shop", "add", `{"prefix":"https://old.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		w.OK("shop", "add", `{"prefix":"https://gone.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		w.OK("shop", "publish", `{"prefix":"https://gone.example/"}`)
		first := w.code(id, 0)
		tokens := map[string]string{"shop": w.Token("shop"), "brand": w.Token("brand")}

		// A reload that has read all but the end of the rules.
		blocked, release := make(chan struct{}), make(chan struct{})
		reload := server.HoldReload(w.Server.Server, sync.OnceFunc(func() { close(blocked); <-release }))
		ended := make(chan error, 1)
		unblock := sync.OnceFunc(func() { close(release) })
		t.Cleanup(unblock)
		go func() { ended <- reload(context.Background()) }()
		<-blocked

		call := func(appid, path, body string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			defer cancel()
			a, err := w.TrySend(w.Request(http.MethodPost, path+"?access_token="+tokens[appid], body).WithContext(ctx))
			require.NoErrorf(t, err, "%s during the reload", path)
			require.True(t, a.Code(t) == 0, "%s: %s", path, a.Body)
		}
		checkScans := func(when string) {
			t.Helper()
			for _, c := range []struct{ text, want string }{
				{"https://old.example/1", "shop release p?q=https%3A%2F%2Fold.example%2F1&scancode_time=1768442400 1011 rule"},
				{"https://new.example/1", "shop release p?q=https%3A%2F%2Fnew.example%2F1&scancode_time=1768442400 1011 rule"},
				{"https://gone.example/1", "open_url"},
				{first.CodeURL, "shop release pages/index/index?code_ticket=T 1124 code"},
			} {
				assert.Equal(t, w.callScan("resolve", "u", c.text).summary(), c.want, "%s %s", when, c.text)
			}
		}
		call("shop", "/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://old.example/"}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumpadd",
			`{"prefix":"https://new.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://new.example/"}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumpdelete", `{"prefix":"https://gone.example/"}`)
		call("brand", "/intp/marketcode/codeactive", activation(id, 9, "pages/index/index"))
		checkScans("during the reload")
		select {
		case err := <-ended:
			t.Fatalf("the reload ended before it was released: %v", err)
		default:
		}
		unblock()
		require.NoError(t, <-ended)
		checkScans("after the reload")
	})
}

// TestSettings_NullIsUnlimited verifies that null makes a limit unlimited, also after a restart, and leaves all other settings unchanged.
func TestSettings_NullIsUnlimited(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	current := func() string { return s.Admin("GET", "/settings", "").Body }
	var fields map[string]any
	err := json.Unmarshal([]byte(current()), &fields)
	require.True(t, err == nil && len(fields) >= 30, "%d settings: %v", len(fields), err)
	s.Admin("PUT", "/settings", `{"verification":["vouched.example"],"rule_rate_limit":7,"daily_limits":{"/cgi-bin/stable_token":5},"scan_commit":"async","api_ips":["192.0.2.1"],
		"callback_ips":["192.0.2.2"],"behaviours":{"codes.activate.overlap_taken":"allow"},"api_hosts":["api.example.com"],"apple_app_ids":["ABCDE12345.com.example.app"],
		"android_apps":[{"package":"com.example.app","sha256_cert_fingerprints":["14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5"]}]}`)
	changed := current()
	for _, f := range settings.Table {
		s.Admin("PUT", "/settings", `{"`+f.Name+`":null}`)
		if !f.CanBeUnlimited() {
			require.Equal(t, current(), changed, "null for %s", f.Name)
			continue
		}
		changed = current()
		require.True(t, strings.Contains(changed, `"`+f.Name+`":null`), "null for %s: %s", f.Name, changed)
	}
	s.Stop()
	s = servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	assert.Equal(t, current(), changed, "after a restart")
}
