package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// eventLog records what components did, in order.
type eventLog struct{ lines []string }

func (d *eventLog) note(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// component returns a component that records its start, the end of its run and its stop.
func (d *eventLog) component(name string) component {
	return component{
		name:  name,
		start: func(context.Context) error { d.note("start %s", name); return nil },
		run: func(ctx context.Context) {
			<-ctx.Done()
			d.note("%s ran", name)
		},
		stop: func(context.Context) error { d.note("stop %s", name); return nil },
	}
}

func (d *eventLog) want(t *testing.T, lines ...string) {
	t.Helper()
	assert.True(t, slices.Equal(d.lines, lines), "events\ngot  %q\nwant %q", d.lines, lines)
	d.lines = nil
}

var errTest = errors.New("it cannot")

func TestLifecycle_StartOrderStopReverse(t *testing.T) {
	t.Parallel()
	var d eventLog
	var r lifecycle
	bare := component{name: "bare"} // has neither start nor stop
	require.NoError(t, r.start(t.Context(), []component{d.component("a"), bare, d.component("b"), d.component("c")}))
	d.want(t, "start a", "start b", "start c")
	for range 2 { // the second stop does nothing
		assert.NoError(t, r.stop())
	}
	d.want(t, "c ran", "stop c", "b ran", "stop b", "a ran", "stop a")
}

func TestLifecycle_StopWithoutStart(t *testing.T) {
	t.Parallel()
	assert.NoError(t, new(lifecycle).stop())
	assert.NoErrorf(t, new(Server).Close(), "a server that never started")
}

// TestLifecycle_FailedStartStopsStarted verifies that a start that fails or is canceled stops all components that were started before.
func TestLifecycle_FailedStartStopsStarted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breakStart func(b *component, cancel func())
		want       error
		events     []string
	}{
		"its start fails": {func(b *component, _ func()) { b.start = func(context.Context) error { return errTest } }, errTest,
			[]string{"start a", "stop b", "a ran", "stop a"}},
		"its start and its end fail": {func(b *component, _ func()) {
			b.start = func(context.Context) error { return errTest }
			b.stop = func(context.Context) error { return errors.New("nor can it end") }
		}, errTest, []string{"start a", "a ran", "stop a"}},
		"the caller gives up while it starts": {func(b *component,
			cancel func()) {
			b.start = func(context.Context) error { cancel(); return nil }
		}, context.Canceled,
			[]string{"start a", "b ran", "stop b", "a ran", "stop a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var d eventLog
			var r lifecycle
			b := d.component("b")
			c.breakStart(&b, cancel)
			err := r.start(ctx, []component{d.component("a"), b, d.component("c")})
			assert.ErrorIs(t, err, c.want, "%v, want %v", err, c.want)
			d.want(t, c.events...)
			assert.NoError(t, r.stop())
			d.want(t)
		})
	}
}

// TestLifecycle_OutlivesStartContext verifies that components continue to run after the context of start is canceled.
func TestLifecycle_OutlivesStartContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var d eventLog
		var r lifecycle
		require.NoError(t, r.start(ctx, []component{d.component("a")}))
		cancel()
		synctest.Wait()
		d.want(t, "start a")
		assert.NoError(t, r.stop())
		d.want(t, "a ran", "stop a")
	})
}

// TestLifecycle_StuckComponentNamed verifies that stop names a component that does not stop, and stops those before it.
func TestLifecycle_StuckComponentNamed(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]func(b *component, forever <-chan struct{}){
		"what it runs": func(b *component, forever <-chan struct{}) { b.run = func(context.Context) { <-forever } },
		"its end": func(b *component, forever <-chan struct{}) {
			b.stop = func(context.Context) error { <-forever; return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				forever := make(chan struct{})
				defer close(forever)
				var d eventLog
				var r lifecycle
				b := component{name: "b"}
				block(&b, forever)
				failing := d.component("c")
				failing.stop = func(context.Context) error { return errTest }
				require.NoError(t, r.start(t.Context(), []component{d.component("a"), b, failing}))
				err := r.stop()
				for _, want := range []string{`the component "b" did not stop within 30s`, `stopping the component "c": it cannot`} {
					assert.True(t, err != nil && strings.Contains(err.Error(), want), "%v, want %s", err, want)
				}
				assert.True(t, errors.Is(err, errTest) && !strings.Contains(err.Error(), `"a"`), "stop() = %v, want errTest alone", err)
				d.want(t, "start a", "start c", "c ran", "a ran", "stop a")
			})
		})
	}
}

// TestLifecycle_StopTimeoutPerComponent verifies that a stop has its own timeout after the context of start is canceled.
func TestLifecycle_StopTimeoutPerComponent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var r lifecycle
		p := component{name: "a", stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		require.NoError(t, r.start(ctx, []component{p}))
		cancel()
		assert.ErrorIs(t, r.stop(), context.DeadlineExceeded, "stop()")
	})
}

// TestLifecycle_RequestsEndWithListeners verifies that drain returns only after requests that it canceled have ended, because the
// components that they use stop next.
func TestLifecycle_RequestsEndWithListeners(t *testing.T) {
	t.Parallel()
	s := &Server{deps: deps{log: slog.New(slog.DiscardHandler)}, serving: serving{drainTime: time.Nanosecond}}
	var requests context.Context
	requests, s.serving.cutRequests = context.WithCancel(t.Context())
	received := make(chan struct{})
	var ended atomic.Bool
	h := &http.Server{ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return requests },
		Handler: s.counted(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(received)
			<-r.Context().Done() // the request has no body, so only the context ends it
			for range 1000 {
				runtime.Gosched()
			}
			ended.Store(true)
		}))}
	l := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	s.serving.servers = []*http.Server{h}
	s.serving.accepting.Go(func() { _ = h.Serve(l) })
	conn := require.Value(net.Dial("tcp", l.Addr().String()))(t)
	defer conn.Close()
	require.NoError(t, assert.ErrorOf(io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")))
	<-received
	assert.NoError(t, s.drain(t.Context()))
	assert.True(t, ended.Load(), "drain returned while a request runs")
}

// TestReady_ScanJournalUnwritable verifies that a failed write of a scan makes the node not ready until one probe succeeds.
func TestReady_ScanJournalUnwritable(t *testing.T) {
	journal := require.Value(scanlog.OpenJournal(t.TempDir(), scanlog.JournalOptions{Random: rand.Reader}))(t)
	l := &scanLog{journal: journal, recorder: scanlog.NewRecorder(journal, scanlog.RecorderOptions{})}
	missingDir := filepath.Join(t.TempDir(), "away")
	assert.NoErrorf(t, l.room(missingDir), "before")
	require.NoError(t, journal.Close())
	g := require.Value(l.recorder.Enqueue(&scanlog.Event{OccurredAt: time.UnixMilli(1)}))(t)
	require.True(t, g.Wait(t.Context()) != nil, "a closed journal accepted a scan, want an error")
	for range 2 {
		assert.True(t, l.room(missingDir) != nil, "room() after a failed write = nil, want an error")
	}
	assert.NoErrorf(t, l.room(t.TempDir()), "when a probe can write")
	assert.NoErrorf(t, l.room(missingDir), "after a successful probe without another failed write")
	_ = l.recorder.Close() // returns the error of the scan again
}

// blockingRules is a rule store that calls hold after AllRules has yielded the last rule.
type blockingRules struct {
	rules.Store
	hold func()
}

func (h blockingRules) AllRules(ctx context.Context) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		defer h.hold()
		h.Store.AllRules(ctx)(yield)
	}
}

// HoldReload returns a function that reloads the replica of a server, and calls hold after the last rule is read.
func HoldReload(s *Server, hold func()) (reload func(context.Context) error) {
	s.domain.current.RuleStore = blockingRules{s.domain.current.RuleStore, hold}
	return s.domain.current.Load
}

// TestSeed_StoreErrorReported verifies that an error of the database while a seed is applied is not reported as an error in the seed file.
func TestSeed_StoreErrorReported(t *testing.T) {
	t.Parallel()
	f := &seedFile{name: "that was sent", data: []byte("accounts:\n  - {appid: a, kind: mini_program}\n")}
	require.NoError(t, f.parse())
	outage := &errcode.Unavailable{Condition: "is read-only", Err: errors.New("attempt to write a readonly database")}
	for err, inSeed := range map[error]bool{outage: false, fmt.Errorf("inserting: %w", outage): false, errors.New("disk I/O error"): false,
		accounts.Invalid("secret: too short"): true, fmt.Errorf("link: %w", accounts.ErrNoAccount): true, errcode.PrefixAdded: true} {
		got := f.planted("accounts", 0, err)
		assert.True(t, errors.Is(got, ErrUsage) == inSeed && (inSeed || errors.Is(got, err)),
			"planted(%v) = %v, want ErrUsage: %v", err, got, inSeed)
	}
}
