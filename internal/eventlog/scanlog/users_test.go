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

func someUser(n uint64) (user UserHash) {
	r := rand.New(rand.NewPCG(n, 14))
	binary.BigEndian.PutUint64(user[:], r.Uint64())
	binary.BigEndian.PutUint64(user[8:], r.Uint64())
	return user
}

// A filter never says of a user who is there that he is not, and says it of nearly all others, in at most 20 bits a user.
func TestUserFilter_FalsePositiveRate(t *testing.T) {
	for _, n := range []int{0, 1, 50, 3_000, 100_000, 900_000} {
		f := newUserFilter(64 << 20)
		for i := range n {
			user := someUser(uint64(i))
			f.add(&user)
		}
		f.fit()
		wrong := 0
		for i := range 20_000 {
			user := someUser(uint64(i))
			require.True(t, i >= n || mayContain(f.blocks, &user), "of %d: user %d is said not to be there", n, i)
			if user := someUser(uint64(1<<40 + i)); mayContain(f.blocks, &user) {
				wrong++
			}
		}
		assert.True(t, wrong <= 200, "of %d: of 20,000 who are not there %d may be", n, wrong)
		bits := 8 * len(f.blocks)
		assert.True(t, bits <= max(8*usersBlock, 25*n), "of %d: %d bits", n, bits)
	}
}

// countingDisk counts the bytes that are read of each file, and may hold a reader up.
type countingDisk struct {
	realDisk
	mu   sync.Mutex
	read map[string]int
	hold func(name string)
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

func (f countingFile) ReadAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	hold := f.d.hold
	f.d.read[f.name] += len(b)
	f.d.mu.Unlock()
	if hold != nil {
		hold(f.name)
	}
	return f.file.ReadAt(b, at)
}

// segments is how many files of scans were read, and how many bytes of all files.
func (d *countingDisk) counted() (segments, bytes int) {
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

// rareEvents are many users, each of few events; 777 is one of two places.
func rareEvents(from, to int64) []Event {
	list := events(from, to)
	for i := range list {
		if n := from + int64(i); n == 1_000 || n == 7_001 {
			list[i].User = someUser(777)
		} else {
			list[i].User = someUser(uint64(10_000 + n))
		}
	}
	return list
}

func rareJournal(t *testing.T, dir string, events int64) (*Journal, *countingDisk) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	d := &countingDisk{read: map[string]int{}}
	j := openJournal(t, dir, JournalOptions{SegmentSize: 20_000, disk: d})
	for n := int64(0); n < events; n += 50 {
		require.NoError(t, j.Append(t.Context(), rareEvents(n, n+50)))
	}
	return j, d
}

// Issue 14: where a user is looked for and erased, the files are read that hold events of
// his, and hardly another one; of all others, a block of their filter.
func TestJournal_EraseReadsOnlyMatchingFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, d := rareJournal(t, dir, 10_000)
	all := j.views(0)
	require.True(t, len(all) >= 35, "%d files", len(all))
	erase := func(user UserHash, want int64, most int, what string) {
		t.Helper()
		d.counted()
		got := require.All(t, j.ForUsers(t.Context(), Users{user: true}, 0))
		assert.True(t, int64(len(got)) == want, "%s: %d events are found, want %d", what, len(got), want)
		n, bytes := d.counted()
		assert.True(t, n <= most, "%s: %d of %d files, %d bytes were read to find the user", what, n, len(all), bytes)
		if n, err := j.Erase(t.Context(), Users{user: true}, math.MaxInt64); err != nil || n != want {
			t.Errorf("%s: %d were erased, %v; want %d", what, n, err, want)
		}
		n, bytes = d.counted()
		assert.True(t, n <= most, "%s: %d of %d files, %d bytes were read to erase the user", what, n, len(all), bytes)
	}
	erase(someUser(777), 2, 5, "two events")
	erase(someUser(777), 0, 3, "erased again")
	erase(someUser(5), 0, 3, "a user without events")
	// Files of an earlier version have none: they are read once, and have one then.
	filters, err := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	require.True(t, err == nil && len(filters) >= len(all)-1, "%d filters: %v", len(filters), err)
	for _, name := range filters {
		require.NoError(t, os.Remove(name))
	}
	erase(someUser(10_400), 1, len(all), "without filters")
	erase(someUser(14_400), 1, 4, "with filters again")
	// So do those that a power cut left behind, and copies of others.
	filters, _ = filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	other, err := os.ReadFile(filters[30])
	require.NoError(t, err)
	for i, name := range filters[:30] {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		switch i % 5 {
		case 0:
			b = other
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
		erase(someUser(n), 1, len(all), "with damaged filters")
	}
	// And a file that is put back from before an erasure.
	name := j.path(all[0].name)
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	erase(someUser(10_020), 1, len(all), "before it is put back")
	j.Close()
	require.NoError(t, os.WriteFile(name, before, 0o600))
	j, d = rareJournal(t, dir, 0)
	erase(someUser(10_020), 1, len(all), "restore")
	assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 10_000, "events are missing")
	require.NoError(t, j.Forget(t.Context(), time.Now().AddDate(100, 0, 0)))
	left, _ := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	for _, name := range left {
		assert.NoErrorf(t, assert.ErrorOf(os.Stat(strings.TrimSuffix(name, usersSuffix)+segmentSuffix)), "a filter without a file")
	}
}

// Issue 14: while an erasure is held up in a file, everybody else reads, writes and looks.
func TestJournal_EraseDoesNotBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, d := rareJournal(t, dir, 2_000)
	filters, _ := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
	for _, name := range filters {
		os.Remove(name)
	}
	files := j.views(0)
	held, let := make(chan struct{}), make(chan struct{})
	var holds atomic.Bool
	d.mu.Lock()
	d.hold = func(name string) {
		if name == files[3].name && holds.CompareAndSwap(false, true) {
			close(held)
			<-let
		}
	}
	d.mu.Unlock()
	erased := make(chan error, 1)
	go func() {
		n, err := j.Erase(t.Context(), Users{someUser(777): true}, math.MaxInt64)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d were erased", n)
		}
		erased <- err
	}()
	<-held
	require.NoError(t, j.Append(t.Context(), rareEvents(2_000, 2_050)))
	got := require.All(t, j.Read(t.Context(), 0))
	assert.Equal(t, len(got), 2_050, "events are read")
	assert.NoError(t, assert.ErrorOf(j.Find(t.Context(), got[300].ID)))
	close(let)
	assert.NoError(t, (<-erased))
}

// erasingUsers says in which folder a process erases users, and from which on.
type erasingUsers struct {
	Dir  string
	From uint64
}

func eraseForEver(ctx context.Context, o erasingUsers) error {
	j, err := OpenJournal(o.Dir, JournalOptions{SegmentSize: 20_000})
	if err != nil {
		return err
	}
	for n := o.From; n < 4_000; n++ {
		if _, err := j.Erase(ctx, Users{someUser(10_000 + n): true}, math.MaxInt64); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return nil
}

// Issue 14: an erasure that is killed on its way loses no scan; erased users are gone, and all other users remain.
func TestJournal_EraseKilledMidway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	j, _ := rareJournal(t, dir, 4_000)
	was := require.All(t, j.Read(t.Context(), 0))
	j.Close()
	chance, next := rand.New(rand.NewPCG(14, 14)), uint64(0)
	for round := range rounds(t, "JOURNAL_KILLS", 30) / 6 {
		if round%2 == 1 { // as an earlier version left them
			filters, _ := filepath.Glob(filepath.Join(dir, "*"+usersSuffix))
			for _, name := range filters[:len(filters)/2] {
				os.Remove(name)
			}
		}
		p := proctest.Start(t, proctest.Command("eraser", erasingUsers{dir, next}))
		kill := 1 + chance.IntN(40)
		for line, more := p.Line(); more; line, more = p.Line() {
			n, err := strconv.ParseUint(line, 10, 64)
			require.True(t, err == nil, "it says %q", line)
			if next = n + 1; kill > 0 {
				if kill--; kill == 0 {
					p.Process.Kill()
				}
			}
		}
		p.Wait()
		require.Equal(t, p.Log(), "", "round %d", round)
		j, err := OpenJournal(dir, JournalOptions{SegmentSize: 20_000})
		require.NoError(t, err)
		got := require.All(t, j.Read(t.Context(), 0))
		require.Equal(t, len(got), len(was), "round %d", round)
		for i, e := range got {
			n := uint64(i)
			require.True(t, (e == was[i] || e.Event == *Anonymous(&was[i].Event) && n <= next) && (n >= next || e.User == (UserHash{}) ||
				n == 1_000), "round %d, next %d: event %d is %+v", round, next, i, e)
		}
		// Whoever is in a file is found by its filter.
		have := Users{}
		for _, e := range got[next:] {
			have[e.User] = true
		}
		delete(have, UserHash{})
		for some := range slices.Chunk(slices.Collect(maps.Keys(have)), 97) {
			some := slices.Collect(slices.Values(some[:min(len(some), 3)]))
			of := Users{}
			for _, user := range some {
				of[user] = true
			}
			found := require.All(t, j.ForUsers(t.Context(), of, 0))
			require.True(t, len(found) >= len(of), "round %d: %d events of %d users are found", round, len(found), len(of))
		}
		j.Close()
	}
	assert.True(t, next >= 10, "%d users were erased", next)
}

// Issue 14: of a time, the blocks are read in which it lies; what comes late is among them.
func TestJournal_ReadByTimeRange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	d := &countingDisk{read: map[string]int{}}
	j := openJournal(t, dir, JournalOptions{SegmentSize: 400_000, disk: d})
	const n = 20_000
	for at := int64(0); at < n; at += 50 {
		list := events(at, at+50)
		if at == 15_000 {
			list[7].OccurredAt = anEvent(5_050).OccurredAt // it comes late
		}
		require.NoError(t, j.Append(t.Context(), list))
	}
	all := require.All(t, j.Read(t.Context(), 0))
	_, whole := d.counted()
	for _, c := range []struct{ from, to int64 }{{5_000, 5_100}, {0, 10}, {n - 10, n}, {0, n}, {n, 2 * n}, {9_000, 9_000}} {
		from, to := anEvent(c.from).OccurredAt, anEvent(c.to).OccurredAt
		d.counted()
		got := map[ScanID]bool{}
		last := int64(0)
		for e, err := range j.ListRange(t.Context(), 0, from, to) {
			require.True(t, err == nil && e.Position > last && e == all[e.Position-1], "%v: %+v after %d, %v", c, e, last, err)
			last = e.Position
			got[e.ID] = true
		}
		_, bytes := d.counted()
		for _, e := range all {
			assert.True(t, e.OccurredAt.Before(from) || !e.OccurredAt.Before(to) || got[e.ID], "%v: position %d is missing", c, e.Position)
		}
		assert.True(t, c.to-c.from > 100 || bytes <= whole/3, "%v: %d bytes of %d were read", c, bytes, whole)
	}
}
