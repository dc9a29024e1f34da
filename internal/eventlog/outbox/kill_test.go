package outbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

func TestMain(m *testing.M) {
	proctest.Roles{"node": proctest.Role(node)}.Play()
	os.Exit(dbtest.Run(m))
}

// orders are what a node works with.
type orders struct {
	Name, URL, Dir string
	Clock          string // the file that says what time it is
}

// node is a process that sends messages, and is killed.
func node(ctx context.Context, o orders) error {
	s, err := store.Open(ctx, store.Target{URL: o.URL, Dir: o.Dir})
	if err != nil {
		return err
	}
	defer s.Close()
	key, err := sealer.NewKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return err
	}
	d := &accounts.Service{Store: s, Key: key, Settings: settings.NewLive(settings.Defaults()), Random: rand.Reader,
		Now: clock(o.Clock).now}
	post := func(ctx context.Context, request safehttp.Request) (safehttp.Answer, error) {
		r, err := http.NewRequestWithContext(ctx, request.Method, request.URL, bytes.NewReader(request.Body))
		if err != nil {
			return safehttp.Answer{}, err
		}
		r.Header.Set("Node", o.Name)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return safehttp.Answer{}, err
		}
		return safehttp.Answer{Status: answer.StatusCode}, answer.Body.Close()
	}
	b := outbox.New(d.MessagePolicy(), s, outbox.Options{Post: post, Now: d.Now, RealNow: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	fmt.Println("ready")
	b.Run(ctx, 5*time.Millisecond)
	return nil
}

var began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// clock is a file with the time of all nodes. It stands still unless the test moves it, so that a lease ends when the test wants it to.
type clock string

func (c clock) now() time.Time {
	text, err := os.ReadFile(string(c))
	if err != nil {
		panic(err)
	}
	ms, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		panic(err)
	}
	return time.UnixMilli(ms)
}

func (c clock) set(t *testing.T, now time.Time) {
	t.Helper()
	require.NoError(t, os.WriteFile(string(c)+".new", []byte(strconv.FormatInt(now.UnixMilli(), 10)), 0o600))
	require.NoError(t, os.Rename(string(c)+".new", string(c)))
}

// arrival is a message at its receiver, who has not answered yet.
type arrival struct {
	node, event string
	answer      chan int
}

// queue stores an account with its messages.
func queue(t *testing.T, target store.Target, receiver string, events int) {
	t.Helper()
	s, err := store.Open(t.Context(), target)
	require.NoError(t, err)
	defer s.Close()
	err = s.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		if err := tx.PutAccount(t.Context(), accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount,
			MessageURL: receiver}); err != nil {
			return err
		}
		for n := range events {
			if err := accounts.QueueMessage(t.Context(), tx, "wxs", fmt.Sprint("event ", n), began, began); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
}

// Nodes send the messages of an account to a receiver that fails, and are killed or stopped while they send: every message arrives, each
// after those before it, and no two are on their way at once.
func TestOutbox_OrderedDeliveryAcrossKills(t *testing.T) {
	for name, c := range map[string]struct {
		target func(t *testing.T) store.Target
		nodes  int
	}{
		"one node":  {func(t *testing.T) store.Target { return store.Target{Dir: t.TempDir()} }, 1},
		"two nodes": {func(t *testing.T) store.Target { return store.Target{URL: storetest.Postgres(t)} }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			target, nodes := c.target(t), c.nodes
			const events = 60
			if testing.Short() {
				t.Skip("kills processes for some seconds")
			}
			at := clock(filepath.Join(t.TempDir(), "clock"))
			at.set(t, began)

			var mu sync.Mutex
			sending := "" // the node whose message is on its way
			arrivals := make(chan arrival)
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return // the node was killed
				}
				a := arrival{r.Header.Get("Node"), string(body), make(chan int, 1)}
				mu.Lock()
				assert.True(t, sending == "", "%s sends %s while %s sends", a.node, a.event, sending)
				sending = a.node
				mu.Unlock()
				select {
				case arrivals <- a:
				case <-r.Context().Done():
					return
				}
				select {
				case status := <-a.answer:
					w.WriteHeader(status)
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(receiver.Close)
			queue(t, target, receiver.URL, events)

			names, running := 0, map[string]*proctest.Child{}
			start := func() {
				t.Helper()
				names++
				name := fmt.Sprint("node ", names)
				c := proctest.Start(t, proctest.Command("node", orders{name, target.URL, target.Dir, string(at)}))
				line, ready := c.Line()
				require.True(t, ready, "%s did not start: %q", name, line)
				running[name] = c
			}
			for range nodes {
				start()
			}
			arrived, failed, last := 0, map[string]bool{}, ""
			next := func() arrival {
				t.Helper()
				a := <-arrivals
				if want := fmt.Sprint("event ", arrived); a.event == want && !failed[last] {
					arrived, last = arrived+1, a.event
				} else if a.event != last {
					t.Fatalf("%s arrived, want %s or %s, which has failed: %t", a.event, want, last, failed[last])
				}
				return a
			}
			// over means that its node does not wait for this message any more.
			over := func() {
				mu.Lock()
				defer mu.Unlock()
				sending = ""
			}
			answer := func(a arrival, status int) {
				over()
				a.answer <- status
			}
			chance := mathrand.New(mathrand.NewPCG(5, 6))
			kills, stops, failures := 0, 0, 0
			for arrived < events || len(failed) > 0 {
				a := next()
				switch what := chance.IntN(8); {
				case what == 0 && !failed[a.event]:
					// It comes again after five seconds, before all others.
					failures++
					failed[a.event] = true
					answer(a, 503)
					at.set(t, at.now().Add(5*time.Second))
					continue
				case what == 1:
					// Its lease outlives it; then another node has the message.
					kills++
					over()
					c := running[a.node]
					require.NoError(t, c.Process.Kill())
					_ = c.Wait() // killed
					start()
					at.set(t, at.now().Add(time.Minute))
					b := next()
					require.True(t, b.event == a.event, "%s came after the node that sent %s was killed", b.event, a.event)
					answer(b, 200)
				case what == 2 && nodes > 1:
					// Stopped, until another node has its message: what it hears then changes nothing.
					stops++
					over()
					running[a.node].Signal(syscall.SIGSTOP)
					at.set(t, at.now().Add(time.Minute))
					b := next()
					require.True(t, b.event == a.event && b.node != a.node,
						"%s sent %s after %s was stopped with %s", b.node, b.event, a.node, a.event)
					status := 200
					if stops%2 == 0 && !failed[a.event] {
						status, failed[a.event] = 503, true
						at.set(t, at.now().Add(5*time.Second))
					}
					answer(b, status)
					a.answer <- 703 - status
					running[a.node].Signal(syscall.SIGCONT)
					if status != 200 {
						continue
					}
				default:
					answer(a, 200)
				}
				delete(failed, a.event)
			}
			for name, c := range running {
				rest, err := c.Stop()
				assert.True(t, err == nil || !c.ProcessState.Exited(), "%s: %v %s\n%s", name, err, rest, c.Log())
			}
			assert.True(t, kills != 0 && failures != 0 && (nodes <= 1 || stops != 0),
				"%d kills, %d stops, %d failures", kills, stops, failures)
			t.Logf("%d events, %d kills, %d stops, %d failures", events, kills, stops, failures)
		})
	}
}
