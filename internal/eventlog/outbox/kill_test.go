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
	proctest.Roles{"node": proctest.Role(runNode)}.Run()
	os.Exit(dbtest.Run(m))
}

// nodeOptions are the options of a node process.
type nodeOptions struct {
	Name, URL, Dir string
	Clock          string // file that contains the current time
}

// runNode sends messages until the process is killed or stopped.
func runNode(ctx context.Context, o nodeOptions) error {
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
		Now: fileClock(o.Clock).now}
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

// fileClock is a file with the time of all nodes. Only the test advances it, so that the test decides when a lease expires.
type fileClock string

func (c fileClock) now() time.Time {
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

func (c fileClock) set(t *testing.T, now time.Time) {
	t.Helper()
	require.NoError(t, os.WriteFile(string(c)+".new", []byte(strconv.FormatInt(now.UnixMilli(), 10)), 0o600))
	require.NoError(t, os.Rename(string(c)+".new", string(c)))
}

// request is a message that the receiver has not answered yet.
type request struct {
	node, event string
	status      chan int
}

// queueMessages stores an account with messages.
func queueMessages(t *testing.T, target store.Target, receiver string, count int) {
	t.Helper()
	s := require.Value(store.Open(t.Context(), target))(t)
	defer s.Close()
	require.NoError(t, s.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		account := accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, MessageURL: receiver}
		if err := tx.PutAccount(t.Context(), account); err != nil {
			return err
		}
		for n := range count {
			if err := accounts.QueueMessage(t.Context(), tx, "wxs", fmt.Sprint("event ", n), began, began); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestOutbox_OrderedDeliveryAcrossKills kills and stops nodes while they send messages of an account to a receiver that fails at random.
// Every message must arrive, in order, and no two messages may be in flight at the same time.
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
			clock := fileClock(filepath.Join(t.TempDir(), "clock"))
			clock.set(t, began)

			var mu sync.Mutex
			sender := "" // the node whose message is in flight
			requests := make(chan request)
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return // the node was killed
				}
				a := request{r.Header.Get("Node"), string(body), make(chan int, 1)}
				mu.Lock()
				assert.True(t, sender == "", "%s sends %s while %s sends, want one message in flight", a.node, a.event, sender)
				sender = a.node
				mu.Unlock()
				select {
				case requests <- a:
				case <-r.Context().Done():
					return
				}
				select {
				case status := <-a.status:
					w.WriteHeader(status)
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(receiver.Close)
			queueMessages(t, target, receiver.URL, events)

			names, running := 0, map[string]*proctest.Child{}
			start := func() {
				t.Helper()
				names++
				name := fmt.Sprint("node ", names)
				c := proctest.Start(t, proctest.Command("node", nodeOptions{name, target.URL, target.Dir, string(clock)}))
				line, ready := c.Line()
				require.True(t, ready, "%s does not start: %q", name, line)
				running[name] = c
			}
			for range nodes {
				start()
			}
			received, failed, last := 0, map[string]bool{}, ""
			next := func() request {
				t.Helper()
				a := <-requests
				if want := fmt.Sprint("event ", received); a.event == want && !failed[last] {
					received, last = received+1, a.event
				} else if a.event != last {
					t.Fatalf("%s arrived, want %s, or %s if it failed: %t", a.event, want, last, failed[last])
				}
				return a
			}
			// clearSender allows the next message: the sender no longer waits for a response.
			clearSender := func() {
				mu.Lock()
				defer mu.Unlock()
				sender = ""
			}
			respond := func(a request, status int) {
				clearSender()
				a.status <- status
			}
			chance := mathrand.New(mathrand.NewPCG(5, 6))
			kills, stops, failures := 0, 0, 0
			for received < events || len(failed) > 0 {
				a := next()
				switch outcome := chance.IntN(8); {
				case outcome == 0 && !failed[a.event]:
					// The message is sent again after five seconds, before all others.
					failures++
					failed[a.event] = true
					respond(a, 503)
					clock.set(t, clock.now().Add(5*time.Second))
					continue
				case outcome == 1:
					// The lease of the killed node must expire before another node sends the message.
					kills++
					clearSender()
					c := running[a.node]
					require.NoError(t, c.Process.Kill())
					_ = c.Wait() // returns an error: the process was killed
					start()
					clock.set(t, clock.now().Add(time.Minute))
					b := next()
					require.Equal(t, b.event, a.event, "message after the sender was killed")
					respond(b, 200)
				case outcome == 2 && nodes > 1:
					// The node is stopped until another node has sent its message: the late response must have no effect.
					stops++
					clearSender()
					running[a.node].Signal(syscall.SIGSTOP)
					clock.set(t, clock.now().Add(time.Minute))
					b := next()
					require.True(t, b.event == a.event && b.node != a.node, "%s sends %s after %s was stopped, want %s from another node",
						b.node, b.event, a.node, a.event)
					status := 200
					if stops%2 == 0 && !failed[a.event] {
						status, failed[a.event] = 503, true
						clock.set(t, clock.now().Add(5*time.Second))
					}
					respond(b, status)
					a.status <- 703 - status
					running[a.node].Signal(syscall.SIGCONT)
					if status != 200 {
						continue
					}
				default:
					respond(a, 200)
				}
				delete(failed, a.event)
			}
			for name, c := range running {
				output, err := c.Stop()
				assert.True(t, err == nil || !c.ProcessState.Exited(), "%s: Stop() = %q, %v, want success\n%s", name, output, err, c.Log())
			}
			assert.True(t, kills != 0 && failures != 0 && (nodes <= 1 || stops != 0),
				"%d kills, %d stops, %d failures, want some of each", kills, stops, failures)
		})
	}
}
