package webhooks_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// clockSpeed is the factor by which the sender's clock runs faster, so that pauses of hours pass within a minute.
const clockSpeed = 3000

func TestMain(m *testing.M) {
	proctest.Roles{"sender": proctest.Role(send)}.Run()
	os.Exit(dbtest.Run(m))
}

// senderOptions are the options of the sender process.
type senderOptions struct {
	Folder string
	Since  time.Time // start of its clock
}

// fileLog is a scan log in a file with a line for each scan, which another process writes.
type fileLog string

func (l fileLog) lines() (int64, error) {
	b, err := os.ReadFile(string(l))
	return int64(bytes.Count(b, []byte("\n"))), err
}

func (l fileLog) ID() string { return "" }

func (l fileLog) End(context.Context) (int64, error) { return l.lines() }

func (l fileLog) Read(_ context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		end, err := l.lines()
		if err != nil {
			yield(scanlog.Entry{}, err)
			return
		}
		for n := after + 1; n <= end; n++ {
			e := ruleScan(1)
			e.ID = scanlog.ScanID{14: byte(n >> 8), 15: byte(n)}
			if !yield(scanlog.Entry{Position: n, Event: e}, nil) {
				return
			}
		}
	}
}

func (l fileLog) write(n int) error {
	f, err := os.OpenFile(string(l), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte("\n"), n))
	return err
}

// newFileService returns a service that reads the scan log file in the sender's folder, with a fast clock that all processes share.
func newFileService(s *store.Store, o senderOptions) (*webhooks.Service, error) {
	key, err := sealer.NewKey(bytes.Repeat([]byte{7}, 32))
	now := func() time.Time { return began.Add(time.Since(o.Since) * clockSpeed) }
	return &webhooks.Service{Store: s.Webhooks(), Vault: key, Now: now, Random: rand.Reader,
		Log: fileLog(filepath.Join(o.Folder, "ledger")), Check: func(context.Context, string) error { return nil }}, err
}

// send runs the sender in the process that the test kills.
func send(ctx context.Context, o senderOptions) error {
	s, err := store.Open(ctx, store.Target{Dir: o.Folder})
	if err != nil {
		return err
	}
	defer s.Close()
	service, err := newFileService(s, o)
	if err != nil {
		return err
	}
	service.RealNow, service.Life = time.Now, func() time.Duration { return 10_000 * time.Hour }
	client := http.Client{Timeout: 150 * time.Millisecond}
	post := func(ctx context.Context, request safehttp.Request) (safehttp.Answer, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, request.URL, bytes.NewReader(request.Body))
		if err != nil {
			return safehttp.Answer{}, err
		}
		r.Header = request.Header
		answer, err := client.Do(r)
		if err != nil {
			return safehttp.Answer{}, err
		}
		answer.Body.Close()
		return safehttp.Answer{Status: answer.StatusCode}, nil
	}
	p := outbox.New(service.Policy(), s, outbox.Options{Post: post, Now: service.Now, RealNow: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	fmt.Println("ready")
	p.Run(ctx, 5*time.Millisecond)
	return nil
}

// TestWebhooks_KilledSenderDeliversAll kills the sender repeatedly while the receiver fails, hangs and aborts connections at random.
// Every event must arrive at least once.
func TestWebhooks_KilledSenderDeliversAll(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	const kills, perLife = 15, 20
	folder := t.TempDir()
	log := fileLog(filepath.Join(folder, "ledger"))
	require.NoError(t, log.write(5))
	var mu sync.Mutex
	attempted := sync.NewCond(&mu) // signals each attempt
	delivered, attempts := map[string]int{}, 0
	chance := mathrand.New(mathrand.NewPCG(3, 4))
	hang := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		attempts++
		outcome := chance.IntN(10)
		if outcome > 3 || outcome == 0 {
			delivered[r.Header.Get("webhook-id")]++
		}
		attempted.Broadcast()
		mu.Unlock()
		switch outcome {
		case 0: // the receiver processed the event but reports a failure: the event is sent again
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // no response
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		case 3: // the connection is aborted
			panic(http.ErrAbortHandler)
		}
	}))
	defer receiver.Close()
	defer close(hang)
	s := require.Value(store.Open(t.Context(), store.Target{Dir: folder}))(t)
	options := senderOptions{folder, time.Now()}
	service := require.Value(newFileService(s, options))(t)
	_, _, err := service.Add(t.Context(), receiver.URL, webhooks.Filter{Rules: []int64{1}})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	start := func() *proctest.Child {
		c := proctest.Start(t, proctest.Command("sender", options))
		line, ready := c.Line()
		require.True(t, ready, "the sender does not start: %q", line)
		return c
	}
	// wait has no time limit: an event may fail repeatedly, with a longer pause after each attempt.
	wait := func(done func() bool) {
		mu.Lock()
		defer mu.Unlock()
		for !done() {
			attempted.Wait()
		}
	}
	for range kills {
		c := start()
		// The kill follows a random number of attempts, at most the number of new events: each of them is attempted at least once.
		mu.Lock()
		until := attempts + 1 + chance.IntN(perLife)
		mu.Unlock()
		require.NoError(t, log.write(perLife))
		wait(func() bool { return attempts >= until })
		require.NoError(t, c.Process.Kill())
		_ = c.Wait() // returns an error: the process was killed
	}
	c := start()
	wait(func() bool { return len(delivered) >= kills*perLife })
	_, err = c.Stop()
	assert.NoErrorf(t, err, "the last sender: %v\n%s", err, c.Log())
	mu.Lock()
	defer mu.Unlock()
	for n := range kills * perLife { // the first five scans are older than the webhook
		assert.True(t, delivered[id(n+6)] > 0, "%s never arrived", id(n+6))
	}
	assert.Equal(t, len(delivered), kills*perLife, "number of events that arrived")
}
