package server_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 13, 4: while everything is read again, changes on that node are
// acknowledged, a scan after them sees them, and they are there after the end.
func TestReload_NonBlocking(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		w := brew(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database = p.database }})
		id := w.apply("held", 10_000)
		w.OK("shop", "add", `{"prefix":"https://old.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		w.OK("shop", "add", `{"prefix":"https://gone.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		w.OK("shop", "publish", `{"prefix":"https://gone.example/"}`)
		first := w.code(id, 0)
		tokens := map[string]string{"shop": w.Token("shop"), "brand": w.Token("brand")}

		// A reload that has read all but the end of the rules.
		held, release := make(chan struct{}), make(chan struct{})
		reload := server.HoldReload(w.Server.Server, sync.OnceFunc(func() { close(held); <-release }))
		ended := make(chan error, 1)
		letGo := sync.OnceFunc(func() { close(release) })
		t.Cleanup(letGo)
		go func() { ended <- reload(context.Background()) }()
		<-held

		call := func(appid, path, body string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			a, err := w.TrySend(w.Request(http.MethodPost, path+"?access_token="+tokens[appid], body).WithContext(ctx))
			require.NoErrorf(t, err, "%s waits for the reload", path)
			require.True(t, a.Code(t) == 0, "%s: %s", path, a.Body)
		}
		look := func(when string) {
			t.Helper()
			for _, c := range []struct{ text, want string }{
				{"https://old.example/1", "shop release p?q=https%3A%2F%2Fold.example%2F1&scancode_time=1768442400 1011 rule"},
				{"https://new.example/1", "shop release p?q=https%3A%2F%2Fnew.example%2F1&scancode_time=1768442400 1011 rule"},
				{"https://gone.example/1", "open_url"},
				{first.CodeURL, "shop release pages/index/index?code_ticket=T 1124 code"},
			} {
				assert.Equal(t, w.ask("resolve", "u", c.text).short(), c.want, "%s %s", when, c.text)
			}
		}
		call("shop", "/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://old.example/"}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumpadd",
			`{"prefix":"https://new.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://new.example/"}`)
		call("shop", "/cgi-bin/wxopen/qrcodejumpdelete", `{"prefix":"https://gone.example/"}`)
		call("brand", "/intp/marketcode/codeactive", activation(id, 9, "pages/index/index"))
		look("during the reload")
		select {
		case err := <-ended:
			t.Fatalf("the reload was not held: %v", err)
		default:
		}
		letGo()
		require.NoError(t, <-ended)
		look("after the reload")
	})
}
