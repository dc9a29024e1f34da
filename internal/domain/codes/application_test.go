package codes

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

var testTime = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// Contract: marketcode 3.1, 11.1.
func TestApplication_Validation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a    Application
		max  int64
		want string // part of the detail; "" = no error
	}{
		{"the smallest", Application{ISV: "x", Count: 10_000}, 20_000_000, ""},
		{"the largest", Application{ISV: "x", Count: 20_000_000}, 20_000_000, ""},
		{"200 million, by setting", Application{ISV: "x", Count: 200_000_000}, 200_000_000, ""},
		{"none", Application{ISV: "x", Count: 0}, 20_000_000, "code_count invalid: 0 is not a multiple of 10000 from 10000 to 20000000"},
		{"a negative count", Application{ISV: "x", Count: -10_000}, 20_000_000, "code_count invalid"},
		{"one less", Application{ISV: "x", Count: 9_999}, 20_000_000, "code_count invalid"},
		{"one more", Application{ISV: "x", Count: 10_001}, 20_000_000, "code_count invalid"},
		{"a step above", Application{ISV: "x", Count: 20_010_000}, 20_000_000, "code_count invalid"},
		{"128 characters", Application{ISV: strings.Repeat("号", 128), Count: 10_000}, 20_000_000, ""},
		{"129 characters", Application{ISV: strings.Repeat("a", 129), Count: 10_000}, 20_000_000,
			"isv_application_id invalid: want 1 to 128 characters"},
		{"no id", Application{ISV: "", Count: 10_000}, 20_000_000, "isv_application_id"},
		{"a control character", Application{ISV: "a\nb", Count: 10_000}, 20_000_000, "isv_application_id"},
	} {
		err := c.a.check(c.max)
		code, detail := errcode.FromError(err)
		assert.True(t, (c.want != "" || err == nil) && (c.want == "" || code == errcode.InvalidArgs && strings.Contains(detail, c.want)),
			"%s: %v, want %q", c.name, err, c.want)
	}
}

// Contract: marketcode 3.1: INIT first, PROCESSING during the work, FINISH at the end; segments appear as they are ready.
func TestBatch_StatusOverTime(t *testing.T) {
	t.Parallel()
	b := Batch{Count: 410_000, Segment: 50_000, CreatedAt: testTime}
	const delay = 40 * time.Second
	for _, c := range []struct {
		after  time.Duration
		status Status
		ready  int
		update time.Duration
	}{
		{0, Init, 0, 0}, {10*time.Second - 1, Init, 0, 0},
		{10 * time.Second, Processing, 0, 10 * time.Second}, {25 * time.Second, Processing, 4, 10 * time.Second},
		{40*time.Second - 1, Processing, 8, 10 * time.Second},
		{40 * time.Second, Finish, 9, 40 * time.Second}, {time.Hour, Finish, 9, 40 * time.Second},
	} {
		now := testTime.Add(c.after)
		if got, list := b.Status(now, delay), b.Ready(now, delay); got != c.status || len(list) != c.ready ||
			!slices.Equal(list, b.Segments()[:c.ready]) {
			t.Errorf("after %s: %s with %d segments, want %s with %d", c.after, got, len(list), c.status, c.ready)
		}
		got := b.UpdatedAt(now, delay)
		assert.True(t, got.Equal(testTime.Add(c.update)), "UpdatedAt after %s = %s, want %s", c.after, got, testTime.Add(c.update))
	}
	got := b.Status(testTime, 0)
	assert.True(t, got == Finish && len(b.Ready(testTime, 0)) == 9, "status without a delay = %s, want %s", got, Finish)
}

func TestBatch_Segments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		count, segment int64
		n              int
		last           Range
	}{
		{10_000, 50_000, 1, Range{0, 9_999}}, {50_000, 50_000, 1, Range{0, 49_999}}, {60_000, 50_000, 2, Range{50_000, 59_999}},
		{20_000_000, 50_000, 400, Range{19_950_000, 19_999_999}}, {60_000, 10_000, 6, Range{50_000, 59_999}},
	} {
		b := Batch{Count: c.count, Segment: c.segment}
		list := b.Segments()
		assert.True(t, len(list) == c.n && list[0].From == 0 && list[c.n-1] == c.last,
			"%d codes by %d: %d segments, the last %v", c.count, c.segment, len(list), list[c.n-1])
		for i, r := range list {
			if i > 0 && r.From != list[i-1].To+1 || b.InSegment(r) != nil {
				t.Errorf("%d codes: segment %d is %v: %v", c.count, i, r, b.InSegment(r))
			}
		}
	}
	b := Batch{Count: 60_000, Segment: 50_000}
	for r, want := range map[Range]string{
		{0, 0}: "", {59_999, 59_999}: "", {10, 49_999}: "", {50_000, 50_001}: "",
		{49_999, 50_000}: "code_start 49999 and code_end 50000 lie in two segments of 50000 codes",
		{0, 59_999}:      "lie in two segments",
		{5, 4}:           "code_start 5 is after code_end 4",
		{0, 60_000}:      "code_end 60000: the application has the indexes 0 to 59999",
		{-1, 4}:          "code_start -1, code_end 4: an index is 0 or more",
		{-2, -1}:         "an index is 0 or more",
	} {
		code, detail := errcode.FromError(b.InSegment(r))
		number := errcode.InvalidArgs
		switch {
		case want == "":
			number = errcode.OK
		case strings.Contains(want, "segments"):
			number = errcode.NoSegment
		case r.To >= b.Count:
			number = errcode.IndexBeyond
		}
		assert.True(t, code == number && strings.Contains(detail, want), "%v: %v %s, want %v %q", r, code, detail, number, want)
	}
}

// TestBlockStart_AfterRestoredBackup verifies that a server with a restored older backup issues no code twice. Design 9.
func TestBlockStart_AfterRestoredBackup(t *testing.T) {
	t.Parallel()
	now := epoch.Add(1000 * time.Second)
	for _, c := range []struct {
		name           string
		counter, floor uint64
		now            time.Time
		byTime         bool
		want           uint64
	}{
		{"the counter, with --dev", 70_000, 0, now, false, 70_000},
		{"the time, with a lost counter", 70_000, 0, now, true, 10_000_000},
		{"the counter, where it is ahead of the time", 10_000_001, 0, now, true, 10_000_001},
		{"the floor", 70_000, 99_000_000, now, true, 99_000_000},
		{"the floor, with --dev", 70_000, 99_000_000, now, false, 99_000_000},
		{"the time in a second cell, with a lost counter", 70_000, CellCounters, now, true, CellCounters + 10_000_000},
		{"the floor in a second cell", 70_000, CellCounters + 99_000_000, now, true, CellCounters + 99_000_000},
		{"a clock before the epoch", 70_000, 0, epoch.Add(-time.Hour), true, 70_000},
	} {
		assert.Equal(t, blockStart(c.counter, c.now, c.floor, c.byTime), c.want, "blockStart with %s", c.name)
	}
	for _, c := range []struct {
		start uint64
		count int64
		fits  bool
	}{{0, 10_000, true}, {Space - 10_000, 10_000, true}, {Space - 9_999, 10_000, false}, {Space, 10_000, false}, {1 << 63, 10_000, false}} {
		if err := checkBlock(c.start, c.count); (err == nil) != c.fits {
			t.Errorf("%d codes from %d: %v", c.count, c.start, err)
		} else if err != nil && errors.Is(err, errcode.InvalidArgs) {
			t.Errorf("%d codes from %d: %v, want a server error", c.count, c.start, err)
		}
	}
}
