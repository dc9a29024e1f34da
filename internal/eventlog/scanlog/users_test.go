package scanlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newUser returns the pseudorandom hash of user n.
func newUser(n uint64) (user UserHash) {
	r := rand.New(rand.NewPCG(n, 14))
	binary.BigEndian.PutUint64(user[:], r.Uint64())
	binary.BigEndian.PutUint64(user[8:], r.Uint64())
	return user
}

// TestUserFilter_FalsePositiveRate verifies that a filter has no false negatives, at most one percent of false positives, and at most 25
// bits for each user.
func TestUserFilter_FalsePositiveRate(t *testing.T) {
	for _, n := range []int{0, 1, 50, 3_000, 100_000, 900_000} {
		f := newUserFilter(64 << 20)
		for i := range n {
			user := newUser(uint64(i))
			f.add(&user)
		}
		f.fit()
		falsePositives := 0
		for i := range 20_000 {
			user := newUser(uint64(i))
			require.True(t, i >= n || f.mayHold(Users{user: true}), "%d users: mayHold(user %d) = false, want true", n, i)
			if user := newUser(uint64(1<<40 + i)); f.mayHold(Users{user: true}) {
				falsePositives++
			}
		}
		assert.True(t, falsePositives <= 200, "%d users: %d false positives of 20,000, want at most 200", n, falsePositives)
		bits := 8 * len(f.blocks)
		assert.True(t, bits <= max(8*usersBlock, 25*n), "%d users: filter has %d bits, want at most 25 for each user", n, bits)
	}
}

// countingDisk counts the bytes read from each file, and calls onRead for each read.
type countingDisk struct {
	realDisk
	mu     sync.Mutex
	read   map[string]int
	onRead func(name string)
}

type countingFile struct {
	file
	d    *countingDisk
	name string
}

func (d *countingDisk) open(name string) (file, error) {
	f, err := d.realDisk.open(name)
	return countingFile{f, d, filepath.Base(name)}, err
}

func (f countingFile) ReadAt(b []byte, offset int64) (int, error) {
	f.d.mu.Lock()
	onRead := f.d.onRead
	f.d.read[f.name] += len(b)
	f.d.mu.Unlock()
	if onRead != nil {
		onRead(f.name)
	}
	return f.file.ReadAt(b, offset)
}

// takeCounts returns the number of segments read and the bytes read from all files, and resets the counts.
func (d *countingDisk) takeCounts() (segments, bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, n := range d.read {
		if bytes += n; strings.HasSuffix(name, segmentSuffix) {
			segments++
		}
	}
	d.read = map[string]int{}
	return segments, bytes
}

// userEvents returns events that each have another user. User 777 has the events 1,000 and 7,001.
func userEvents(from, to int64) []Event {
	list := events(from, to)
	for i := range list {
		if n := from + int64(i); n == 1_000 || n == 7_001 {
			list[i].User = newUser(777)
		} else {
			list[i].User = newUser(uint64(10_000 + n))
		}
	}
	return list
}

// openCountingJournal opens a journal on a countingDisk, and appends userEvents in chunks of 50.
func openCountingJournal(t *testing.T, dir string, events int64) (*Journal, *countingDisk) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	d := &countingDisk{read: map[string]int{}}
	j := openJournal(t, dir, JournalOptions{SegmentSize: 20_000, disk: d})
	for n := int64(0); n < events; n += 50 {
		require.NoError(t, j.Append(t.Context(), userEvents(n, n+50)))
	}
	return j, d
}

// TestJournal_EraseReadsOnlyMatchingFiles verifies that a search for a user and an erasure read the segments with events of the user and
// hardly any other segment, also with missing, corrupted and outdated filters.
func TestJournal_EraseReadsOnlyMatchingFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, d := openCountingJournal(t, dir, 10_000)
	all := j.views(0)
	require.True(t, len(all) >= 35, "%d segments, want at least 35", len(all))
	erase := func(user UserHash, want int64, maxSegments int, name string) {
		t.Helper()
		d.takeCounts()
		got := require.All(t, j.ForUsers(t.Context(), Users{user: true}, 0))
		assert.True(t, int64(len(got)) == want, "%s: ForUsers() yields %d events, want %d", name, len(got), want)
		segments, bytes := d.takeCounts()
		assert.True(t, segments <= maxSegments, "%s: ForUsers() reads %d segments, %d bytes, at most %d",
			name, segments, bytes, maxSegments)
		n, err := j.Erase(t.Context(), Users{user: true}, math.MaxInt64)
		assert.True(t, err == nil && n == want, "%s: Erase() = %d, %v, want %d", name, n, err, want)
		segments, bytes = d.takeCounts()
		assert.True(t, segments <= maxSegments, "%s: Erase() reads %d segments, %d bytes, at most %d", name, segments, bytes, maxSegments)
	}
	erase(newUser(777), 2, 5, "two events")
	erase(newUser(777), 0, 3, "erased user")
	erase(newUser(5), 0, 3, "user without events")
	// A segment of an earlier version has no filter, and gets one when it is read.
	filters, err := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	require.True(t, err == nil && len(filters) >= len(all)-1, "%d filters, %v, want one for each sealed segment", len(filters), err)
	for _, name := range filters {
		require.NoError(t, os.Remove(name))
	}
	erase(newUser(10_400), 1, len(all), "without filters")
	erase(newUser(14_400), 1, 4, "with new filters")
	// So does a segment with a filter that a power cut damaged, or that belongs to another segment.
	filters, _ = filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	laterFilter := require.Value(os.ReadFile(filters[30]))(t)
	for i, name := range filters[:30] {
		b := require.Value(os.ReadFile(name))(t)
		switch i % 5 {
		case 0:
			b = laterFilter
		case 1:
			b = make([]byte, len(b))
		case 2:
			b = b[:len(b)/2]
		case 3:
			clear(b[usersBlock:])
		case 4:
			b = nil
		}
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	for n := uint64(10_000); n < 15_000; n += 331 {
		erase(newUser(n), 1, len(all), "with damaged filters")
	}
	// So does a segment that is restored from before an erasure.
	name := j.path(all[0].name)
	before := require.Value(os.ReadFile(name))(t)
	erase(newUser(10_020), 1, len(all), "before the restore")
	j.Close()
	require.NoError(t, os.WriteFile(name, before, 0o600))
	j, d = openCountingJournal(t, dir, 0)
	erase(newUser(10_020), 1, len(all), "after the restore")
	assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 10_000, "number of events")
	require.NoError(t, j.Forget(t.Context(), time.Now().AddDate(100, 0, 0)))
	filters, _ = filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	for _, name := range filters {
		assert.NoErrorf(t, assert.ErrorOf(os.Stat(strings.TrimSuffix(name, usersSuffix)+segmentSuffix)), "segment of the filter %s", name)
	}
}

// TestJournal_EraseDoesNotBlock verifies that appends, reads and finds proceed while an erasure blocks on a file.
func TestJournal_EraseDoesNotBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, d := openCountingJournal(t, dir, 2_000)
	filters, _ := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	for _, name := range filters {
		os.Remove(name)
	}
	files := j.views(0)
	blocked, proceed := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	d.mu.Lock()
	d.onRead = func(name string) {
		if name == files[3].name && once.CompareAndSwap(false, true) {
			close(blocked)
			<-proceed
		}
	}
	d.mu.Unlock()
	erased := make(chan error, 1)
	go func() {
		n, err := j.Erase(t.Context(), Users{newUser(777): true}, math.MaxInt64)
		if err == nil && n != 1 {
			err = fmt.Errorf("Erase() = %d, want 1", n)
		}
		erased <- err
	}()
	<-blocked
	require.NoError(t, j.Append(t.Context(), userEvents(2_000, 2_050)))
	got := require.All(t, j.Read(t.Context(), 0))
	assert.Equal(t, len(got), 2_050, "number of events read during the erasure")
	assert.NoError(t, assert.ErrorOf(j.Find(t.Context(), got[300].ID)))
	close(proceed)
	assert.NoError(t, <-erased)
}

// eraserOptions are the options of the eraser process.
type eraserOptions struct {
	Dir  string
	From uint64 // number of the first user
}

// eraseUsers erases one user after the other, and prints the number of each erased user.
func eraseUsers(ctx context.Context, o eraserOptions) error {
	j, err := OpenJournal(o.Dir, JournalOptions{SegmentSize: 20_000})
	if err != nil {
		return err
	}
	for n := o.From; n < 4_000; n++ {
		if _, err := j.Erase(ctx, Users{newUser(10_000 + n): true}, math.MaxInt64); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return nil
}

// TestJournal_EraseKilledMidway kills a process during an erasure. No scan may be lost, no scan may have a user whose erasure completed,
// and all other users must remain.
func TestJournal_EraseKilledMidway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, _ := openCountingJournal(t, dir, 4_000)
	before := require.All(t, j.Read(t.Context(), 0))
	j.Close()
	chance, next := rand.New(rand.NewPCG(14, 14)), uint64(0)
	for round := range rounds(t, "JOURNAL_KILLS", 30) / 6 {
		if round%2 == 1 { // as with segments of an earlier version
			filters, _ := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
			for _, name := range filters[:len(filters)/2] {
				os.Remove(name)
			}
		}
		p := proctest.Start(t, proctest.Command("eraser", eraserOptions{dir, next}))
		kill := 1 + chance.IntN(40)
		for line, more := p.Line(); more; line, more = p.Line() {
			n, err := strconv.ParseUint(line, 10, 64)
			require.NoErrorf(t, err, "output line %q of the eraser", line)
			if next = n + 1; kill > 0 {
				if kill--; kill == 0 {
					p.Process.Kill()
				}
			}
		}
		p.Wait()
		require.Equal(t, p.Log(), "", "error output in round %d", round)
		j := require.Value(OpenJournal(dir, JournalOptions{SegmentSize: 20_000}))(t)
		got := require.All(t, j.Read(t.Context(), 0))
		require.Equal(t, len(got), len(before), "number of events in round %d", round)
		for i, e := range got {
			n := uint64(i)
			require.True(t, (e == before[i] || e.Event == *Anonymous(&before[i].Event) && n <= next) &&
				(n >= next || e.User == (UserHash{}) || n == 1_000),
				"round %d: event %d = %+v, want it without user only if it is before %d", round, i, e, next)
		}
		// Filters find all remaining users.
		users := Users{}
		for _, e := range got[next:] {
			users[e.User] = true
		}
		delete(users, UserHash{})
		for chunk := range slices.Chunk(slices.Collect(maps.Keys(users)), 97) {
			sample := Users{}
			for _, user := range chunk[:min(len(chunk), 3)] {
				sample[user] = true
			}
			found := require.All(t, j.ForUsers(t.Context(), sample, 0))
			require.True(t, len(found) >= len(sample), "round %d: ForUsers() yields %d events of %d users", round, len(found), len(sample))
		}
		j.Close()
	}
	assert.True(t, next >= 10, "%d users were erased, want at least 10", next)
}

// TestJournal_ReadByTimeRange verifies that ListRange reads only the blocks that overlap a time range, and includes late events.
func TestJournal_ReadByTimeRange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	d := &countingDisk{read: map[string]int{}}
	j := openJournal(t, dir, JournalOptions{SegmentSize: 400_000, disk: d})
	const n = 20_000
	for first := int64(0); first < n; first += 50 {
		list := events(first, first+50)
		if first == 15_000 {
			list[7].OccurredAt = newEvent(5_050).OccurredAt // a late event
		}
		require.NoError(t, j.Append(t.Context(), list))
	}
	all := require.All(t, j.Read(t.Context(), 0))
	_, totalBytes := d.takeCounts()
	for _, c := range []struct{ from, to int64 }{{5_000, 5_100}, {0, 10}, {n - 10, n}, {0, n}, {n, 2 * n}, {9_000, 9_000}} {
		from, to := newEvent(c.from).OccurredAt, newEvent(c.to).OccurredAt
		d.takeCounts()
		got := map[ScanID]bool{}
		last := int64(0)
		for e, err := range j.ListRange(t.Context(), 0, from, to) {
			require.True(t, err == nil && e.Position > last && e == all[e.Position-1], "ListRange(%v) yields %+v, %v after position %d, "+
				"want ascending entries of the journal", c, e, err, last)
			last = e.Position
			got[e.ID] = true
		}
		_, bytes := d.takeCounts()
		for _, e := range all {
			assert.True(t, e.OccurredAt.Before(from) || !e.OccurredAt.Before(to) || got[e.ID], "ListRange(%v) lacks scan %d", c, e.Position)
		}
		assert.True(t, c.to-c.from > 100 || bytes <= totalBytes/3, "ListRange(%v) reads %d of %d bytes, want at most a third",
			c, bytes, totalBytes)
	}
}
