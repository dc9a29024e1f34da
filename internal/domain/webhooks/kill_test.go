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
	"strconv"
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

// haste is the factor by which the sender's clock runs faster, so that pauses of hours pass within a minute.
const haste = 3000

func TestMain(m *testing.M) {
	proctest.Roles{"sender": proctest.Role(send)}.Play()
	os.Exit(dbtest.Run(m))
}

// sender is what the process that is killed works with.
type sender struct {
	Folder string
	Since  time.Time // when its clock began
}

// ledgerFile is a ledger that another process writes: a line for each scan.
type ledgerFile string

func (l ledgerFile) lines() (int64, error) {
	b, err := os.ReadFile(string(l))
	return int64(bytes.Count(b, []byte("\n"))), err
}

func (l ledgerFile) ID() string { return "" }

func (l ledgerFile) End(context.Context) (int64, error) { return l.lines() }

func (l ledgerFile) Read(_ context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		end, err := l.lines()
		if err != nil {
			yield(scanlog.Entry{}, err)
			return
		}
		for n := after + 1; n <= end; n++ {
			e := ofRule(1)
			e.ID = scanlog.ScanID{14: byte(n >> 8), 15: byte(n)}
			if !yield(scanlog.Entry{Position: n, Event: e}, nil) {
				return
			}
		}
	}
}

func (l ledgerFile) write(n int) error {
	f, err := os.OpenFile(string(l), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte("\n"), n))
	return err
}

// bookIn is the book over the database and the ledger in a folder.
func bookIn(s *store.Store, folder string, now func() time.Time) (*webhooks.Service, error) {
	key, err := sealer.NewKey(bytes.Repeat([]byte{7}, 32))
	return &webhooks.Service{Store: s.Webhooks(), Vault: key, Now: now, Random: rand.Reader,
		Log: ledgerFile(filepath.Join(folder, "ledger")), Check: func(context.Context, string) error { return nil }}, err
}

// hasty is a clock of all processes that began at the same moment.
func hasty(since time.Time) func() time.Time {
	return func() time.Time { return began.Add(time.Since(since) * haste) }
}

// send is the process that is killed.
func send(ctx context.Context, o sender) error {
	s, err := store.Open(ctx, store.Target{Dir: o.Folder})
	if err != nil {
		return err
	}
	defer s.Close()
	service, err := bookIn(s, o.Folder, hasty(o.Since))
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

// A receiver that fails, hangs and takes things twice, and a sender that is killed over and over: every event arrives, none is lost.
func TestWebhooks_KilledSenderDeliversAll(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	const kills, perLife = 15, 20
	folder := t.TempDir()
	ledger := ledgerFile(filepath.Join(folder, "ledger"))
	require.NoError(t, ledger.write(5))
	var mu sync.Mutex
	came := sync.NewCond(&mu) // one more try
	took, tries := map[string]int{}, 0
	chance := mathrand.New(mathrand.NewPCG(3, 4))
	hang := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		tries++
		what := chance.IntN(10)
		if what > 3 || what == 0 {
			took[r.Header.Get("webhook-id")]++
		}
		came.Broadcast()
		mu.Unlock()
		switch what {
		case 0: // it has it, and says that it failed: it will come twice
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // nobody answers
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		case 3: // the connection breaks
			panic(http.ErrAbortHandler)
		}
	}))
	defer receiver.Close()
	defer close(hang)
	s, err := store.Open(t.Context(), store.Target{Dir: folder})
	require.NoError(t, err)
	since := time.Now()
	service, err := bookIn(s, folder, hasty(since))
	require.NoError(t, err)
	_, _, err = service.Add(t.Context(), receiver.URL, webhooks.Filter{Rules: []int64{1}})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	start := func() *proctest.Child {
		c := proctest.Start(t, proctest.Command("sender", sender{folder, since}))
		line, ready := c.Line()
		require.True(t, ready, "the sender did not start: %q", line)
		return c
	}
	// An event may fail as often as chance wants, and waits longer each time: how long the whole takes is bounded by the test alone.
	wait := func(enough func() bool) {
		mu.Lock()
		defer mu.Unlock()
		for !enough() {
			came.Wait()
		}
	}
	for range kills {
		c := start()
		// It is killed when it has sent so much, wherever it is then: not more than what is new, which is tried at least once.
		mu.Lock()
		until := tries + 1 + chance.IntN(perLife)
		mu.Unlock()
		require.NoError(t, ledger.write(perLife))
		wait(func() bool { return tries >= until })
		require.NoError(t, c.Process.Kill())
		_ = c.Wait() // killed
	}
	c := start()
	wait(func() bool { return len(took) >= kills*perLife })
	_, err = c.Stop()
	assert.NoErrorf(t, err, "the last sender: %v\n%s", err, c.Log())
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for n := range kills * perLife {
		// The first five were there before the webhook.
		if took[id(n+6)] == 0 {
			t.Errorf("%s never arrived", id(n+6))
		} else if took[id(n+6)] > 1 {
			twice++
		}
	}
	assert.True(t, len(took) == kills*perLife, "%d events arrived, want %s", len(took), strconv.Itoa(kills*perLife))
	t.Logf("%d events, %d tries, %d kills, %d events more than once", len(took), tries, kills, twice)
}
