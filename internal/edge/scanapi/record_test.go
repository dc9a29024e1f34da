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

// disk is a ledger that a test holds up or breaks.
type disk struct {
	events []scanlog.Event
	err    error         // of Record
	wait   error         // of the group
	held   chan struct{} // nil = durable at once
}

func (d *disk) record(_ context.Context, e *scanlog.Event) (Durable, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.events = append(d.events, *e)
	return d, nil
}

func (*disk) OnDurable(func(error)) bool { return false }

func (d *disk) Wait(ctx context.Context) error {
	if d.held == nil {
		return d.wait
	}
	select {
	case <-d.held:
		return d.wait
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func recordedAPI(t *testing.T, d *disk) *API {
	a := fuzzedAPI(t)
	a.Record = d.record
	a.UserHash = func(namespace, user string) (h scanlog.UserHash) {
		copy(h[:], namespace+"/"+user)
		return h
	}
	return a
}

func TestScanRecord_LedgerFields(t *testing.T) {
	d := &disk{}
	a := recordedAPI(t, d)
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
	require.Equal(t, len(d.events), 4, "events")
	first := d.events[0]
	assert.True(t, first.ID.Time() == at.Truncate(time.Millisecond) && first.OccurredAt == at.Truncate(time.Millisecond),
		"the time: %v, of the id %v", first.OccurredAt, first.ID.Time())
	first.ID, first.OccurredAt = scanlog.ScanID{}, time.Time{}
	want := scanlog.Event{Source: "album", Client: "app/1", Action: "open_mini_program", Kind: "rule", App: "shop", Version: "release",
		RuleID: 1, Text: "https://shop.example/t/7"}
	copy(want.User[:], "ns/u")
	want.Network = network("192.0.2.0")
	assert.True(t, first == want, "got  %+v\nwant %+v", first, want)
	if e := d.events[1]; e.Action != "open_url" || e.Source != "scan" || len(e.Text) > 512 || len(e.Text) < 510 ||
		!strings.HasSuffix(e.Text, "食") || e.User != (scanlog.UserHash{}) || e.RuleID != 0 {
		t.Errorf("a link that opens nothing: %+v", e)
	}
	for _, e := range d.events[2:] {
		assert.True(t, e.Action == "show_text" && e.Text == "", "a text that is no link: %+v", e)
	}
}

// An answer leaves once its scan is durable; with soon, one that fell on no code leaves first.
func TestScanRecord_ResponseAfterDurableWrite(t *testing.T) {
	body := []byte(`{"text":"https://shop.example/t/7"}`)
	for _, c := range []struct {
		name       string
		soon, late bool
		waits      time.Duration // 0 = it leaves at once, -1 = when the disk has it
	}{
		{"durable", false, false, -1},
		{"soon", true, false, 0},
		{"soon, but the disk is late: within the loss window", true, true, scanlog.Window},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{held: make(chan struct{})}
				a := recordedAPI(t, d)
				a.RespondEarly, a.IsDiskSlow = func() bool { return c.soon }, func() bool { return c.late }
				lost := 0
				a.Unrecorded = func(string) { lost++ }
				began, answered := time.Now(), make(chan time.Duration, 1)
				go func() {
					assert.NoError(t, assert.ErrorOf(a.answer(context.Background(), "", body, nil)))
					answered <- time.Since(began)
				}()
				synctest.Wait()
				if c.waits < 0 {
					select {
					case <-answered:
						t.Error("it did not wait")
					default:
					}
					time.Sleep(time.Hour)
					close(d.held)
					assert.Equal(t, (<-answered), time.Hour, "it took")
					return
				}
				assert.Equal(t, (<-answered), c.waits, "it took")
				assert.True(t, (lost > 0) == c.late, "%d counted as lost", lost)
			})
		})
	}
}

// A scan that the ledger rejects is refused, or with soon answered and counted.
func TestScanRecord_LedgerWriteFails(t *testing.T) {
	body := []byte(`{"text":"https://shop.example/t/7"}`)
	for _, c := range []struct {
		name   string
		d      disk
		cause  string
		detail string
	}{
		{"the queue is full", disk{err: scanlog.ErrFull}, UnrecordedFull, "cannot keep up"},
		{"the disk is full", disk{wait: errors.New("no space left on device")}, UnrecordedFailed, "cannot be written"},
		{"it is closed", disk{err: scanlog.ErrClosed}, UnrecordedFailed, "cannot be written"},
	} {
		for _, soon := range []bool{false, true} {
			a := recordedAPI(t, &c.d)
			a.RespondEarly, a.IsDiskSlow = func() bool { return soon }, func() bool { return true }
			var causes []string
			a.Unrecorded = func(cause string) { causes = append(causes, cause) }
			answer, err := a.answer(t.Context(), accounts.DefaultNamespace, body, nil)
			assert.True(t, !soon || err == nil && len(answer) != 0, "%s, soon: %v", c.name, err)
			if !soon {
				p, ok := errors.AsType[problem](err)
				assert.True(t, ok && p.status == 503 && strings.Contains(p.detail, c.detail) && strings.Contains(p.detail, "try again") &&
					len(answer) <= 0, "%s: %s %v", c.name, answer, err)
			}
			assert.True(t, len(causes) == 1 && causes[0] == c.cause, "%s: counted %v", c.name, causes)
		}
	}
}
