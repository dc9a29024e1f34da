package scanapi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// fakeLog is a scan log that a test delays or fails.
type fakeLog struct {
	events  []scanlog.Event
	err     error         // of record
	waitErr error         // of Wait
	durable chan struct{} // closed when events are durable; nil = immediately
}

func (l *fakeLog) record(_ context.Context, e *scanlog.Event) (Durable, error) {
	if l.err != nil {
		return nil, l.err
	}
	l.events = append(l.events, *e)
	return l, nil
}

func (*fakeLog) OnDurable(func(error)) bool { return false }

func (l *fakeLog) Wait(ctx context.Context) error {
	if l.durable == nil {
		return l.waitErr
	}
	select {
	case <-l.durable:
		return l.waitErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func newRecordingAPI(t *testing.T, l *fakeLog) *API {
	a := newTestAPI(t)
	a.Record = l.record
	a.UserHash = func(namespace, user string) (h scanlog.UserHash) {
		copy(h[:], namespace+"/"+user)
		return h
	}
	return a
}

func TestScanRecord_LedgerFields(t *testing.T) {
	l := &fakeLog{}
	a := newRecordingAPI(t, l)
	at := time.Date(2026, 1, 15, 2, 0, 0, 123_456_789, time.UTC)
	a.Now = func() time.Time { return at }
	for _, body := range []string{
		`{"text":"https://shop.example/t/7","user":"u","source":"album","ip":"192.0.2.77","client":"app/1"}`,
		`{"text":"https://shop.example/none/` + strings.Repeat("食", 300) + `"}`,
		`{"text":"my password"}`,
		"{\"text\":\"https://shop.example/t/\xff\"}",
	} {
		require.NoError(t, assert.ErrorOf(a.answer(t.Context(), "ns", []byte(body), nil)))
	}
	require.Equal(t, len(l.events), 4, "recorded events")
	first := l.events[0]
	assert.True(t, first.ID.Time() == at.Truncate(time.Millisecond) && first.OccurredAt == at.Truncate(time.Millisecond),
		"event at %v with the id of %v, want both at %v in milliseconds", first.OccurredAt, first.ID.Time(), at)
	first.ID, first.OccurredAt = scanlog.ScanID{}, time.Time{}
	want := scanlog.Event{Source: "album", Client: "app/1", Action: "open_mini_program", Kind: "rule", App: "shop", Version: "release",
		RuleID: 1, Text: "https://shop.example/t/7"}
	copy(want.User[:], "ns/u")
	want.Network = network("192.0.2.0")
	assert.True(t, first == want, "got  %+v\nwant %+v", first, want)
	if e := l.events[1]; e.Action != "open_url" || e.Source != "scan" || len(e.Text) > 512 || len(e.Text) < 510 ||
		!strings.HasSuffix(e.Text, "食") || e.User != (scanlog.UserHash{}) || e.RuleID != 0 {
		t.Errorf("event of an unmatched link = %+v", e)
	}
	for _, e := range l.events[2:] {
		assert.True(t, e.Action == "show_text" && e.Text == "", "event of a text that is not a link = %+v", e)
	}
}

// TestScanRecord_ResponseAfterDurableWrite verifies that a response waits until its scan is durable. With RespondEarly the response to a
// scan without a code is sent immediately, or after scanlog.Window while the disk is slow.
func TestScanRecord_ResponseAfterDurableWrite(t *testing.T) {
	body := []byte(`{"text":"https://shop.example/t/7"}`)
	for _, c := range []struct {
		name        string
		early, slow bool
		delay       time.Duration // -1 = until the scan is durable
	}{
		{"durable", false, false, -1},
		{"soon", true, false, 0},
		{"soon, but the disk is late: within the loss window", true, true, scanlog.Window},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &fakeLog{durable: make(chan struct{})}
				a := newRecordingAPI(t, l)
				a.RespondEarly, a.IsDiskSlow = func() bool { return c.early }, func() bool { return c.slow }
				lost := 0
				a.Unrecorded = func(string) { lost++ }
				start, answered := time.Now(), make(chan time.Duration, 1)
				go func() {
					assert.NoError(t, assert.ErrorOf(a.answer(context.Background(), "", body, nil)))
					answered <- time.Since(start)
				}()
				synctest.Wait()
				if c.delay < 0 {
					select {
					case <-answered:
						t.Error("response was sent before the scan was durable")
					default:
					}
					time.Sleep(time.Hour)
					close(l.durable)
					assert.Equal(t, <-answered, time.Hour, "delay of the response")
					return
				}
				assert.Equal(t, <-answered, c.delay, "delay of the response")
				assert.True(t, (lost > 0) == c.slow, "%d scans counted as unrecorded, want some: %v", lost, c.slow)
			})
		})
	}
}

// TestScanRecord_LedgerWriteFails verifies that a scan that cannot be recorded is rejected with 503, or answered and counted with
// RespondEarly.
func TestScanRecord_LedgerWriteFails(t *testing.T) {
	body := []byte(`{"text":"https://shop.example/t/7"}`)
	for _, c := range []struct {
		name   string
		log    fakeLog
		cause  string
		detail string
	}{
		{"the queue is full", fakeLog{err: scanlog.ErrFull}, UnrecordedFull, "cannot keep up"},
		{"the disk is full", fakeLog{waitErr: errors.New("no space left on device")}, UnrecordedFailed, "cannot be written"},
		{"the log is closed", fakeLog{err: scanlog.ErrClosed}, UnrecordedFailed, "cannot be written"},
	} {
		for _, early := range []bool{false, true} {
			a := newRecordingAPI(t, &c.log)
			a.RespondEarly, a.IsDiskSlow = func() bool { return early }, func() bool { return true }
			var causes []string
			a.Unrecorded = func(cause string) { causes = append(causes, cause) }
			answer, err := a.answer(t.Context(), accounts.DefaultNamespace, body, nil)
			assert.True(t, !early || err == nil && len(answer) != 0, "%s, RespondEarly: %q, %v, want a response", c.name, answer, err)
			if !early {
				p, ok := errors.AsType[problem](err)
				assert.True(t, ok && p.status == 503 && strings.Contains(p.detail, c.detail) && strings.Contains(p.detail, "try again") &&
					len(answer) == 0, "%s: %s, %v, want 503 with %q", c.name, answer, err, c.detail)
			}
			assert.True(t, len(causes) == 1 && causes[0] == c.cause, "%s: counted causes %v, want [%s]", c.name, causes, c.cause)
		}
	}
}
