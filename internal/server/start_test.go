package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var lives atomic.Int64

// lifetime is a span of a test whose goroutines are told from those of all others by a
// label, which a goroutine has from the one that started it.
type lifetime string

func newLife() lifetime { return lifetime(fmt.Sprintf("life-%d", lives.Add(1))) }

// do lets f start goroutines of this life.
func (l lifetime) do(f func(ctx context.Context)) {
	pprof.Do(context.Background(), pprof.Labels("life", string(l)), f)
}

// goroutines are those of this life, alike ones together.
func (l lifetime) goroutines(t *testing.T) (stacks []string) {
	t.Helper()
	var all bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&all, 1))
	for one := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(one, fmt.Sprintf(`"life":%q`, l)) {
			stacks = append(stacks, one)
		}
	}
	return stacks
}

// over fails the test unless every goroutine of this life ends: one that was told to end may still be on its way out.
func (l lifetime) over(t *testing.T) {
	t.Helper()
	var left []string
	for began := time.Now(); time.Since(began) < patience; {
		if left = l.goroutines(t); len(left) == 0 {
			return
		}
		time.Sleep(time.Millisecond) // between two looks, for those on their way
	}
	t.Errorf("%d kinds of goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// startConfig has a listener for each API, so that all kinds of them start.
func startConfig(t *testing.T, p place) server.Config {
	t.Helper()
	c := server.Default()
	c.Data, c.Database, c.CodePrefix, c.AdminToken = p.data, p.database, "C.EXAMPLE/", servertest.AdminToken
	c.Listen, c.ScanListen, c.AdminListen = "127.0.0.1:0", "localhost:0", "127.0.0.1:0"
	c.Seed = filepath.Join(t.TempDir(), "seed.yaml")
	require.NoError(t, os.WriteFile(c.Seed, []byte(brand), 0o600))
	return c
}

func TestLife_GoroutinesTracked(t *testing.T) {
	t.Parallel()
	l, other := newLife(), newLife()
	end := make(chan struct{})
	l.do(func(context.Context) { go func() { <-end }() })
	got := l.goroutines(t)
	assert.True(t, len(got) == 1 && strings.Contains(got[0], "TestLife_GoroutinesTracked"), "one is running, and these are seen: %q", got)
	assert.Equal(t, len(other.goroutines(t)), 0, "another life")
	close(end)
	l.over(t)
}

// No goroutine outlives a server that was used and closed, twice.
func TestServer_CloseLeaksNoGoroutines(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		c := startConfig(t, where(t))
		for range 2 { // the second time in a used folder
			l := newLife()
			var s *server.Server
			var err error
			l.do(func(ctx context.Context) { s, err = server.Start(ctx, c, io.Discard, server.TestHooks{}) })
			require.NoError(t, err)
			eventually(t, "ten goroutines of the server are told from others", func() bool { return len(l.goroutines(t)) >= 10 })
			client := http.Client{Transport: &http.Transport{}}
			for _, call := range []struct{ url, body, token string }{
				{s.AdminURL + "/admin/v1/scan-keys", `{"name":"app"}`, servertest.AdminToken},
				{s.ScanURL + "/scan/v1/resolve", `{"text":"https://a.example/"}`, "none"},
				{s.URL + "/cgi-bin/token", `{}`, ""},
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, call.url, strings.NewReader(call.body))
				require.NoError(t, err)
				r.Header.Set("Authorization", "Bearer "+call.token)
				r.Header.Set("Content-Type", "application/json")
				answer, err := client.Do(r)
				require.NoError(t, err)
				answer.Body.Close()
			}
			l.do(func(context.Context) {
				for range 2 {
					assert.NoError(t, s.Close())
				}
			})
			client.CloseIdleConnections()
			l.over(t)
		}
	})
}

// Whichever part fails, and whenever the caller gives up: what began ends, and the next start finds everything free.
func TestStart_FailureLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	errNo := errors.New("it cannot")
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		c := startConfig(t, where(t))
		parts := server.Parts()
		assert.True(t, len(parts) >= 15, "only %v", parts)
		for how, fail := range map[string]func(ctx context.Context, giveUp func(), start func(context.Context) error) error{
			"before it began": func(context.Context, func(), func(context.Context) error) error { return errNo },
			"half way": func(ctx context.Context, _ func(), start func(context.Context) error) error {
				return errors.Join(start(ctx), errNo)
			},
			"given up": func(ctx context.Context, giveUp func(), start func(context.Context) error) error {
				giveUp()
				return errors.Join(start(ctx), ctx.Err())
			},
		} {
			if c.Database != "" && how != "half way" {
				continue // there a start takes its time
			}
			for n, failing := range parts {
				l := newLife()
				var s *server.Server
				var err error
				var began []string
				l.do(func(ctx context.Context) {
					ctx, giveUp := context.WithCancel(ctx)
					defer giveUp()
					s, err = server.StartAround(ctx, c, io.Discard, server.TestHooks{},
						func(ctx context.Context, part string, start func(context.Context) error) error {
							if began = append(began, part); part == failing {
								return fail(ctx, giveUp, start)
							}
							return start(ctx)
						})
				})
				assert.True(t, errors.Is(err, errNo) || errors.Is(err, context.Canceled), "%s, %s: %v", failing, how, err)
				assert.True(t, slices.Equal(began, parts[:n+1]), "%s, %s: %v began", failing, how, began)
				assert.NoErrorf(t, s.Close(), "%s, %s: closed all the same", failing, how)
				l.over(t)
				require.True(t, !t.Failed(), "%s failed %s", failing, how)
			}
		}
		s, err := server.Start(t.Context(), c, io.Discard, server.TestHooks{})
		require.NoError(t, err)
		assert.NoError(t, s.Close())
	})
}

// BenchmarkStart measures a start with the demo seed, and the stop.
func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		servertest.Start(b, servertest.Options{}).Stop()
	}
}
