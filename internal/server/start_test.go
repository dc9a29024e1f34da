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

var labelCount atomic.Int64

// goroutineLabel is a pprof label that identifies the goroutines of a part of a test. A goroutine inherits the labels of its creator.
type goroutineLabel string

func newLabel() goroutineLabel { return goroutineLabel(fmt.Sprintf("life-%d", labelCount.Add(1))) }

// do runs f with the label, so that goroutines that f starts have it.
func (l goroutineLabel) do(f func(ctx context.Context)) {
	pprof.Do(context.Background(), pprof.Labels("life", string(l)), f)
}

// goroutines returns the stacks of the goroutines with the label; goroutines with the same stack are one entry.
func (l goroutineLabel) goroutines(t *testing.T) (stacks []string) {
	t.Helper()
	var profile bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf(`"life":%q`, l)) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// checkEnded fails the test unless all goroutines with the label end. It waits, because a goroutine may exit with a delay after its stop.
func (l goroutineLabel) checkEnded(t *testing.T) {
	t.Helper()
	var stacks []string
	for start := time.Now(); time.Since(start) < waitTimeout; {
		if stacks = l.goroutines(t); len(stacks) == 0 {
			return
		}
		time.Sleep(time.Millisecond) // between two polls
	}
	t.Errorf("%d goroutine stacks remain, want none:\n%s", len(stacks), strings.Join(stacks, "\n\n"))
}

// startConfig returns a configuration with a listener for each API, so that all kinds of listeners start.
func startConfig(t *testing.T, p instance) server.Config {
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
	l, other := newLabel(), newLabel()
	end := make(chan struct{})
	l.do(func(context.Context) { go func() { <-end }() })
	got := l.goroutines(t)
	assert.True(t, len(got) == 1 && strings.Contains(got[0], "TestLife_GoroutinesTracked"), "goroutines() = %q, want one", got)
	assert.Equal(t, len(other.goroutines(t)), 0, "goroutines with another label")
	close(end)
	l.checkEnded(t)
}

// TestServer_CloseLeaksNoGoroutines verifies that no goroutine remains after a server was used and closed.
func TestServer_CloseLeaksNoGoroutines(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		c := startConfig(t, newInstance(t))
		for range 2 { // the second time with a used data directory
			l := newLabel()
			var s *server.Server
			var err error
			l.do(func(ctx context.Context) { s, err = server.Start(ctx, c, io.Discard, server.TestHooks{}) })
			require.NoError(t, err)
			eventually(t, "ten goroutines have the label", func() bool { return len(l.goroutines(t)) >= 10 })
			client := http.Client{Transport: &http.Transport{}}
			for _, call := range []struct{ url, body, token string }{
				{s.AdminURL + "/admin/v1/scan-keys", `{"name":"app"}`, servertest.AdminToken},
				{s.ScanURL + "/scan/v1/resolve", `{"text":"https://a.example/"}`, "none"},
				{s.URL + "/cgi-bin/token", `{}`, ""},
			} {
				r := require.Value(http.NewRequestWithContext(t.Context(), http.MethodPost, call.url, strings.NewReader(call.body)))(t)
				r.Header.Set("Authorization", "Bearer "+call.token)
				r.Header.Set("Content-Type", "application/json")
				answer := require.Value(client.Do(r))(t)
				answer.Body.Close()
			}
			l.do(func(context.Context) {
				for range 2 {
					assert.NoError(t, s.Close())
				}
			})
			client.CloseIdleConnections()
			l.checkEnded(t)
		}
	})
}

// TestStart_FailureLeavesNothingBehind fails or cancels a start at each component. All must stop, and the next start succeed.
func TestStart_FailureLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	errTest := errors.New("it cannot")
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		c := startConfig(t, newInstance(t))
		components := server.Parts()
		assert.True(t, len(components) >= 15, "only %v", components)
		for phase, fail := range map[string]func(ctx context.Context, cancel func(), start func(context.Context) error) error{
			"before it began": func(context.Context, func(), func(context.Context) error) error { return errTest },
			"half way": func(ctx context.Context, _ func(), start func(context.Context) error) error {
				return errors.Join(start(ctx), errTest)
			},
			"given up": func(ctx context.Context, cancel func(), start func(context.Context) error) error {
				cancel()
				return errors.Join(start(ctx), ctx.Err())
			},
		} {
			if c.Database != "" && phase != "half way" {
				continue // a start on PostgreSQL is slow
			}
			for n, failing := range components {
				l := newLabel()
				var s *server.Server
				var err error
				var started []string
				l.do(func(ctx context.Context) {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					s, err = server.StartAround(ctx, c, io.Discard, server.TestHooks{},
						func(ctx context.Context, part string, start func(context.Context) error) error {
							if started = append(started, part); part == failing {
								return fail(ctx, cancel, start)
							}
							return start(ctx)
						})
				})
				assert.True(t, errors.Is(err, errTest) || errors.Is(err, context.Canceled), "%s, %s: %v", failing, phase, err)
				assert.True(t, slices.Equal(started, components[:n+1]), "%s, %s: started %v, want %v", failing, phase, started,
					components[:n+1])
				assert.NoErrorf(t, s.Close(), "%s, %s: Close", failing, phase)
				l.checkEnded(t)
				require.True(t, !t.Failed(), "stopped at component %s, %s", failing, phase)
			}
		}
		s := require.Value(server.Start(t.Context(), c, io.Discard, server.TestHooks{}))(t)
		assert.NoError(t, s.Close())
	})
}

// BenchmarkStart measures a start with the demo seed and the stop.
func BenchmarkStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		servertest.Start(b, servertest.Options{}).Stop()
	}
}
