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

// diary is what parts did, in order.
type diary struct{ lines []string }

func (d *diary) note(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// part is one that writes down what is done with it.
func (d *diary) part(name string) component {
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

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	assert.True(t, slices.Equal(d.lines, lines), "got  %q\nwant %q", d.lines, lines)
	d.lines = nil
}

var errNo = errors.New("it cannot")

func TestLifecycle_StartOrderStopReverse(t *testing.T) {
	t.Parallel()
	var d diary
	var r lifecycle
	bare := component{name: "bare"} // has neither start nor stop
	require.NoError(t, r.start(t.Context(), []component{d.part("a"), bare, d.part("b"), d.part("c")}))
	d.want(t, "start a", "start b", "start c")
	for range 2 { // the second time there is nothing left
		assert.NoError(t, r.stop())
	}
	d.want(t, "c ran", "stop c", "b ran", "stop b", "a ran", "stop a")
}

func TestLifecycle_StopWithoutStart(t *testing.T) {
	t.Parallel()
	assert.NoError(t, new(lifecycle).stop())
	assert.NoErrorf(t, new(Server).Close(), "a server that never started")
}

// A start that fails, or is given up, ends what began before it, and itself.
func TestLifecycle_FailedStartStopsStarted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail func(b *component, giveUp func())
		want error
		did  []string
	}{
		"its start fails": {func(b *component, _ func()) { b.start = func(context.Context) error { return errNo } }, errNo,
			[]string{"start a", "stop b", "a ran", "stop a"}},
		"its start and its end fail": {func(b *component, _ func()) {
			b.start = func(context.Context) error { return errNo }
			b.stop = func(context.Context) error { return errors.New("nor can it end") }
		}, errNo, []string{"start a", "a ran", "stop a"}},
		"the caller gives up while it starts": {func(b *component,
			giveUp func()) {
			b.start = func(context.Context) error { giveUp(); return nil }
		}, context.Canceled,
			[]string{"start a", "b ran", "stop b", "a ran", "stop a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			var d diary
			var r lifecycle
			b := d.part("b")
			c.fail(&b, giveUp)
			err := r.start(ctx, []component{d.part("a"), b, d.part("c")})
			assert.ErrorIs(t, err, c.want, "%v, want %v", err, c.want)
			d.want(t, c.did...)
			assert.NoError(t, r.stop())
			d.want(t)
		})
	}
}

// The end of a caller's context is not the end of what runs.
func TestLifecycle_OutlivesStartContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var d diary
		var r lifecycle
		require.NoError(t, r.start(ctx, []component{d.part("a")}))
		cancel()
		synctest.Wait()
		d.want(t, "start a")
		assert.NoError(t, r.stop())
		d.want(t, "a ran", "stop a")
	})
}

// A part that does not end is named, and those before it end all the same.
func TestLifecycle_StuckComponentNamed(t *testing.T) {
	t.Parallel()
	for name, stick := range map[string]func(b *component, forever <-chan struct{}){
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
				var d diary
				var r lifecycle
				b := component{name: "b"}
				stick(&b, forever)
				failing := d.part("c")
				failing.stop = func(context.Context) error { return errNo }
				require.NoError(t, r.start(t.Context(), []component{d.part("a"), b, failing}))
				err := r.stop()
				for _, want := range []string{`the component "b" did not stop within 30s`, `stopping the component "c": it cannot`} {
					assert.True(t, err != nil && strings.Contains(err.Error(), want), "%v, want %s", err, want)
				}
				assert.True(t, errors.Is(err, errNo) && !strings.Contains(err.Error(), `"a"`), "%v", err)
				d.want(t, "start a", "start c", "c ran", "a ran", "stop a")
			})
		})
	}
}

// The last write of a part has a time of its own, whoever gave up before.
func TestLifecycle_StopTimeoutPerComponent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var r lifecycle
		p := component{name: "a", stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		require.NoError(t, r.start(ctx, []component{p}))
		cancel()
		err := r.stop()
		assert.ErrorIs(t, err, context.DeadlineExceeded, "%v, want that its own time ended", err)
	})
}

// A request that is cut at the end of the drain is over when the listeners end: what stands below them ends next.
func TestLifecycle_RequestsEndWithListeners(t *testing.T) {
	t.Parallel()
	s := &Server{deps: deps{log: slog.New(slog.DiscardHandler)}, serving: serving{drainTime: time.Nanosecond}}
	var requests context.Context
	requests, s.serving.cutRequests = context.WithCancel(t.Context())
	asked := make(chan struct{})
	var over atomic.Bool
	h := &http.Server{ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return requests },
		Handler: s.counted(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done() // its body never comes, so that nothing else tells of the end
			for range 1000 {
				runtime.Gosched()
			}
			over.Store(true)
		}))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.serving.servers = []*http.Server{h}
	s.serving.accepting.Go(func() { _ = h.Serve(l) })
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, assert.ErrorOf(io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")))
	<-asked
	assert.NoError(t, s.drain(t.Context()))
	assert.True(t, over.Load(), "the listeners ended, and a request goes on")
}

// Issue 12, 10: scans that could not be written make a node not ready until it is known that the next can be; then it looks no more.
func TestReady_ScanJournalUnwritable(t *testing.T) {
	journal, err := scanlog.OpenJournal(t.TempDir(), scanlog.JournalOptions{Random: rand.Reader})
	require.NoError(t, err)
	l := &scanLog{journal: journal, recorder: scanlog.NewRecorder(journal, scanlog.RecorderOptions{})}
	away := filepath.Join(t.TempDir(), "away")
	assert.NoErrorf(t, l.room(away), "before")
	require.NoError(t, journal.Close())
	g, err := l.recorder.Enqueue(&scanlog.Event{OccurredAt: time.UnixMilli(1)})
	require.NoError(t, err)
	require.True(t, g.Wait(t.Context()) != nil, "a closed journal took a scan")
	for range 2 {
		assert.True(t, l.room(away) != nil, "ready, and no scan can be written")
	}
	assert.NoErrorf(t, l.room(t.TempDir()), "when there is room")
	assert.NoErrorf(t, l.room(away), "it looks again although nothing failed since")
	_ = l.recorder.Close() // it tells of the scan once more
}

// heldRules are rules of which the last is read when a test lets it.
type heldRules struct {
	rules.Store
	hold func()
}

func (h heldRules) AllRules(ctx context.Context) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		defer h.hold()
		h.Store.AllRules(ctx)(yield)
	}
}

// HoldReload lets a test hold up the next reload of a server, which the function that it returns begins.
func HoldReload(s *Server, hold func()) (reload func(context.Context) error) {
	s.domain.current.RuleStore = heldRules{s.domain.current.RuleStore, hold}
	return s.domain.current.Load
}

// Issue 28: an error of the store while a seed is planted is told as such, not as a fault of the seed,
// which an operator would look for in vain.
func TestSeed_StoreErrorReported(t *testing.T) {
	t.Parallel()
	f := &seedFile{name: "that was sent", data: []byte("accounts:\n  - {appid: a, kind: mini_program}\n")}
	require.NoError(t, f.parse())
	away := &errcode.Unavailable{Condition: "is read-only", Err: errors.New("attempt to write a readonly database")}
	for err, own := range map[error]bool{away: false, fmt.Errorf("inserting: %w", away): false, errors.New("disk I/O error"): false,
		accounts.Invalid("secret: too short"): true, fmt.Errorf("link: %w", accounts.ErrNoAccount): true, errcode.PrefixAdded: true} {
		got := f.planted("accounts", 0, err)
		assert.True(t, errors.Is(got, ErrUsage) == own && (own || errors.Is(got, err)), "%v is told as %v", err, got)
	}
}
