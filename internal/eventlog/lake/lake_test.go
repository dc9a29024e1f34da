package lake

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// chance is a source of bytes that a seed decides.
type chance struct{ *rand.ChaCha8 }

// memory is a place without a disk.
type memory map[string][]byte

func (m memory) Get(_ context.Context, name string) ([]byte, error) {
	if content, there := m[name]; there {
		return content, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Open(ctx context.Context, name string) (io.ReaderAt, int64, io.Closer, error) {
	content, err := m.Get(ctx, name)
	return bytes.NewReader(content), int64(len(content)), io.NopCloser(nil), err
}

func (m memory) Put(_ context.Context, name string, content []byte) error {
	m[name] = content
	return nil
}

func (m memory) List(_ context.Context, prefix string) (names []string, err error) {
	for name := range m {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// shaky is a place that fails when its count runs out: before a file is written or after.
type shaky struct {
	Place
	t     *testing.T
	left  int // writes that succeed; < 0 = all
	after bool
}

var errAway = errors.New("the place is away")

func (s *shaky) Put(ctx context.Context, name string, content []byte) error {
	if s.left == 0 && !s.after {
		return errAway
	}
	if err := s.Place.Put(ctx, name, content); err != nil {
		return err
	}
	// A reader who looks at any moment finds no scan twice.
	inLake(s.t, s.Place)
	if s.left == 0 {
		return errAway
	}
	s.left--
	return nil
}

// inLake reads all parts as an engine does that lists the folder, and returns the rows by scan.
func inLake(t *testing.T, place Place) map[string]Row {
	t.Helper()
	names, err := place.List(t.Context(), scansFolder)
	require.NoError(t, err)
	all := map[string]Row{}
	for _, name := range names {
		content, err := place.Get(t.Context(), name)
		require.NoError(t, err)
		rows, err := parquet.Read[Row](bytes.NewReader(content), int64(len(content)))
		require.NoErrorf(t, err, "%s", name)
		day, _, ok := readPartName(name)
		for _, r := range rows {
			_, twice := all[r.ScanID]
			require.True(t, !twice, "%s has the scan %s, and so has another part", name, r.ScanID)
			got := r.ScannedAt.In(time.FixedZone("", 8*3600)).Format(time.DateOnly)
			require.True(t, ok && got == day, "%s has a scan of %s", name, got)
			all[r.ScanID] = r
		}
	}
	return all
}

// world is a journal, and what was recorded in it.
type world struct {
	t       *testing.T
	dir     string
	journal *scanlog.Journal
	chance  chance
	rand    *rand.Rand
	now     time.Time
	scans   map[string]scanlog.Event
	erased  []scanlog.Erasure
}

func newWorld(t *testing.T, seed byte) *world {
	c := chance{rand.NewChaCha8([32]byte{seed})}
	w := &world{t: t, dir: t.TempDir(), chance: c, rand: rand.New(c), now: time.Date(2026, 3, 1, 15, 0, 0, 0, time.UTC),
		scans: map[string]scanlog.Event{}}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	w.journal, err = scanlog.OpenJournal(w.dir, scanlog.JournalOptions{Random: w.chance, SegmentSize: 20_000})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = w.journal.Close() })
}

// record makes scans durable, some of them of another day.
func (w *world) record(n int) {
	w.t.Helper()
	r := scanlog.NewRecorder(w.journal, scanlog.RecorderOptions{})
	for range n {
		w.now = w.now.Add(time.Duration(w.rand.IntN(120)) * time.Second)
		e := scanlog.Event{OccurredAt: w.now, User: user(w.rand.IntN(8)), Source: "scan", Action: "open_url", Client: "an app", Batch: 7,
			Index: int64(w.rand.IntN(3))}
		if w.rand.IntN(10) == 0 {
			e.OccurredAt = e.OccurredAt.AddDate(0, 0, -1) // a phone that had no network
		}
		w.chance.Read(e.ID[6:])
		for i, ms := 5, e.OccurredAt.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
			e.ID[i] = byte(ms)
		}
		require.NoError(w.t, assert.ErrorOf(r.Enqueue(&e)))
		w.scans[e.ID.String()] = e
	}
	require.NoError(w.t, r.Close())
}

// user is one of some users; the first is nobody.
func user(n int) (u scanlog.UserHash) {
	u[3] = byte(n)
	return u
}

func (w *world) lake(to Place) *Lake {
	return &Lake{Place: to, Journal: w.journal, Name: w.journal.ID, OffsetHours: func() int { return 8 },
		Rows: func(_ context.Context, scans []scanlog.Entry) (rows []Row, err error) {
			for _, e := range scans {
				r := Row{ScanID: e.ID.String(), ScannedAt: e.OccurredAt, Source: e.Source, Action: e.Action, Client: e.Client,
					ApplicationID: e.Batch, CodeIndex: &e.Index, Brand: fmt.Sprint("brand ", e.Index)}
				if e.User != (scanlog.UserHash{}) {
					r.UserHash = hex.EncodeToString(e.User[:])
				}
				rows = append(rows, r)
			}
			return rows, nil
		},
		Erased: func(_ context.Context, after int64) (list []scanlog.Erasure, err error) {
			for _, e := range w.erased {
				if e.ErasedAt > after {
					list = append(list, e)
				}
			}
			return list, nil
		},
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler), full: 40, atOnce: 25}
}

// equal checks that a place has every scan that was recorded, as it was.
func (w *world) equal(to Place) {
	w.t.Helper()
	got := inLake(w.t, to)
	for id, e := range w.scans {
		r, there := got[id]
		switch {
		case !there:
			w.t.Errorf("the lake lacks the scan %s", id)
		case !r.ScannedAt.Equal(e.OccurredAt) || r.CodeIndex == nil || *r.CodeIndex != e.Index || r.ApplicationID != e.Batch ||
			r.Action != e.Action:
			w.t.Errorf("the lake has %+v for %+v", r, e)
		}
	}
	assert.True(w.t, len(got) <= len(w.scans), "the lake has %d scans, recorded were %d", len(got), len(w.scans))
}

// TestLake_ExactlyOnceAfterKillAtAnyWrite kills the writer before and after each
// of its writes, lets scans come meanwhile, and starts another.
func TestLake_ExactlyOnceAfterKillAtAnyWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for kill := range 12 {
			t.Run(fmt.Sprintf("write %d, after %v", kill, after), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, byte(kill))
				to := memory{}
				w.record(70)
				for round := range 4 {
					dying := w.lake(&shaky{to, t, kill + round, after})
					_ = dying.Flush(t.Context()) // it dies here, or later
					w.record(w.rand.IntN(30))
					_ = dying.Flush(t.Context())
					w.record(w.rand.IntN(30))
				}
				whole := w.lake(&shaky{to, t, -1, false})
				require.NoError(t, whole.Flush(t.Context()))
				w.equal(to)
				assert.Equal(t, whole.Backlog(), 0, "scans are behind")
			})
		}
	}
}

func TestLake_RewrittenAfterLoss(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		w := newWorld(t, 1)
		to := folder(filepath.Join(t.TempDir(), "lake"))
		l := w.lake(to)
		for range 2 {
			w.record(130)
			require.NoError(t, l.Flush(t.Context()))
		}
		require.NoError(t, os.RemoveAll(string(to)))
		w.record(10)
		if restarted {
			l = w.lake(to)
		}
		require.NoError(t, l.Flush(t.Context()))
		w.equal(to)
	}
}

func TestLake_ForeignJournalGetsOwnName(t *testing.T) {
	w := newWorld(t, 2)
	to := folder(filepath.Join(t.TempDir(), "lake"))
	w.record(50)
	require.NoError(t, w.journal.Close())
	before := filepath.Join(t.TempDir(), "before")
	require.NoError(t, os.CopyFS(before, os.DirFS(w.dir)))
	w.open()
	w.record(50)
	require.NoError(t, w.lake(to).Flush(t.Context()))
	// The journal of a backup takes its place: 50 scans of the lake are in it no more.
	w.dir = before
	w.open()
	l := w.lake(to)
	for range 3 {
		require.NoError(t, l.Flush(t.Context()))
		w.record(60)
	}
	require.NoError(t, w.lake(to).Flush(t.Context()))
	w.equal(to)
}

func TestLake_FolderOrBucketURL(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
	for text, right := range map[string]bool{
		"lake": true, "/srv/lake": true, "s3://bucket": true, "s3://bucket/some/prefix/": true,
		"s3://": false, "s3:///prefix": false, "gs://bucket": false, "s3://key:secret@bucket/prefix": false,
		"s3://bucket?endpoint=x": false,
	} {
		_, err := Parse(text)
		assert.True(t, (err == nil) == right, "%s: %v", text, err)
		assert.True(t, err == nil || !strings.Contains(err.Error(), "secret@"), "%s: the error has the secret: %v", text, err)
	}
	t.Setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
	_, err := Parse("s3://bucket")
	assert.True(t, err != nil && strings.Contains(err.Error(), "AWS_ENDPOINT_URL"), "an endpoint that is no address: %v", err)
}

func TestLake_Erasure(t *testing.T) {
	w := newWorld(t, 3)
	to := folder(filepath.Join(t.TempDir(), "lake"))
	l := w.lake(to)
	w.record(150)
	require.NoError(t, l.Flush(t.Context()))
	// A node that is given up left a part, and one that lives has one.
	gone, living := partOf(t, w, "00ff"), partOf(t, w, "00aa")
	for _, p := range []*scanFile{gone, living} {
		require.NoError(t, to.Put(t.Context(), p.name, p.content))
	}
	l.Others = func(context.Context) (map[string]bool, error) { return map[string]bool{"00aa": true}, nil }
	upTo := w.now
	w.erased = append(w.erased, scanlog.Erasure{User: user(5), ErasedAt: upTo.UnixMilli()})
	w.now = w.now.Add(time.Second)
	w.record(150) // the journal names the user still: those from before are of an earlier day
	require.NoError(t, l.Flush(t.Context()))
	name, kept, anonymous := hex.EncodeToString(slices.Concat(make([]byte, 3), []byte{5}, make([]byte, 12))), 0, 0
	for id, r := range inLake(t, to) {
		e, recorded := w.scans[id]
		switch {
		case !recorded:
			assert.True(t, r.UserHash == name == strings.HasPrefix(id, "living"), "%s has the user %q", id, r.UserHash)
		case e.User != user(5):
			assert.True(t, (r.UserHash == hex.EncodeToString(e.User[:]) || e.User == user(0)) && r.Client == "an app",
				"the scan %s of another user became %+v", id, r)
		case e.OccurredAt.After(upTo):
			kept++
			assert.True(t, r.UserHash == name, "the scan %s is from after the erasure, and anonymous", id)
		default:
			anonymous++
			assert.True(t, r.UserHash == "" && r.Client == "" && r.Network == "", "the scan %s names a user who was erased: %+v", id, r)
		}
	}
	assert.True(t, kept != 0 && anonymous != 0, "%d scans from before the erasure, %d from after", anonymous, kept)
}

// partOf is a part of another node, with one scan.
func partOf(t *testing.T, w *world, node string) *scanFile {
	t.Helper()
	id := map[string]string{"00ff": "gone", "00aa": "living"}[node]
	u := user(5)
	empty := &scanFile{name: partName(w.now.In(time.FixedZone("", 8*3600)).Format(time.DateOnly), node, 1)}
	p, _, err := empty.merged([]Placed{{1, Row{ScanID: id, ScannedAt: w.now, UserHash: hex.EncodeToString(u[:])}}}, nil)
	require.NoError(t, err)
	return p
}
