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
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// memory is an in-memory storage.
type memory map[string][]byte

func (m memory) Get(_ context.Context, name string) ([]byte, error) {
	if content, ok := m[name]; ok {
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

// failingPlace is a storage that fails after a number of writes: before or after the file is written.
type failingPlace struct {
	Place
	t         *testing.T
	writes    int // remaining writes that succeed; < 0 = unlimited
	failAfter bool
}

var errUnavailable = errors.New("storage unavailable")

func (s *failingPlace) Put(ctx context.Context, name string, content []byte) error {
	if s.writes == 0 && !s.failAfter {
		return errUnavailable
	}
	if err := s.Place.Put(ctx, name, content); err != nil {
		return err
	}
	readRows(s.t, s.Place) // a concurrent reader must never find a scan twice
	if s.writes == 0 {
		return errUnavailable
	}
	s.writes--
	return nil
}

// readRows reads all parts as a query engine does that lists the folder, and returns the rows by scan ID. Each scan must be in one part.
func readRows(t *testing.T, place Place) map[string]Row {
	t.Helper()
	names := require.Value(place.List(t.Context(), scansFolder))(t)
	all := map[string]Row{}
	for _, name := range names {
		content := require.Value(place.Get(t.Context(), name))(t)
		rows, err := parquet.Read[Row](bytes.NewReader(content), int64(len(content)))
		require.NoErrorf(t, err, "%s", name)
		day, _, ok := readPartName(name)
		for _, r := range rows {
			_, twice := all[r.ScanID]
			require.True(t, !twice, "scan %s of %s is in another part too, want it once", r.ScanID, name)
			got := r.ScannedAt.In(time.FixedZone("", 8*3600)).Format(time.DateOnly)
			require.True(t, ok && got == day, "%s has a scan of %s, want only scans of %s", name, got, day)
			all[r.ScanID] = r
		}
	}
	return all
}

// fixture is a journal with the scans that were recorded in it.
type fixture struct {
	t       *testing.T
	dir     string
	journal *scanlog.Journal
	random  *rand.ChaCha8
	rand    *rand.Rand
	now     time.Time
	scans   map[string]scanlog.Event
	erased  []scanlog.Erasure
}

func newFixture(t *testing.T, seed byte) *fixture {
	random := rand.NewChaCha8([32]byte{seed})
	w := &fixture{t: t, dir: t.TempDir(), random: random, rand: rand.New(random), now: time.Date(2026, 3, 1, 15, 0, 0, 0, time.UTC),
		scans: map[string]scanlog.Event{}}
	w.openJournal()
	return w
}

func (w *fixture) openJournal() {
	w.t.Helper()
	w.journal = require.Value(scanlog.OpenJournal(w.dir, scanlog.JournalOptions{Random: w.random, SegmentSize: 20_000}))(w.t)
	w.t.Cleanup(func() { _ = w.journal.Close() })
}

// record records n scans, some of them of the day before.
func (w *fixture) record(n int) {
	w.t.Helper()
	r := scanlog.NewRecorder(w.journal, scanlog.RecorderOptions{})
	for range n {
		w.now = w.now.Add(time.Duration(w.rand.IntN(120)) * time.Second)
		e := scanlog.Event{OccurredAt: w.now, User: newUser(w.rand.IntN(8)), Source: "scan", Action: "open_url", Client: "an app", Batch: 7,
			Index: int64(w.rand.IntN(3))}
		if w.rand.IntN(10) == 0 {
			e.OccurredAt = e.OccurredAt.AddDate(0, 0, -1) // a late scan of a phone that was offline
		}
		w.random.Read(e.ID[6:])
		for i, ms := 5, e.OccurredAt.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
			e.ID[i] = byte(ms)
		}
		require.NoError(w.t, assert.ErrorOf(r.Enqueue(&e)))
		w.scans[e.ID.String()] = e
	}
	require.NoError(w.t, r.Close())
}

// newUser returns the hash of user n; 0 means no user.
func newUser(n int) (u scanlog.UserHash) {
	u[3] = byte(n)
	return u
}

func (w *fixture) newLake(to Place) *Lake {
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

// checkRows checks that a storage has exactly the recorded scans.
func (w *fixture) checkRows(to Place) {
	w.t.Helper()
	got := readRows(w.t, to)
	for id, e := range w.scans {
		r, ok := got[id]
		assert.True(w.t, ok && r.ScannedAt.Equal(e.OccurredAt) && r.CodeIndex != nil && *r.CodeIndex == e.Index &&
			r.ApplicationID == e.Batch && r.Action == e.Action, "row of scan %s = %+v, %v, want %+v", id, r, ok, e)
	}
	assert.True(w.t, len(got) <= len(w.scans), "the lake has %d scans, want the %d recorded ones", len(got), len(w.scans))
}

// TestLake_ExactlyOnceAfterKillAtAnyWrite kills the writer before or after each of its writes, records further scans and starts another
// writer. The lake must contain each scan once.
func TestLake_ExactlyOnceAfterKillAtAnyWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for kill := range 12 {
			t.Run(fmt.Sprintf("write %d, after %v", kill, after), func(t *testing.T) {
				t.Parallel()
				w := newFixture(t, byte(kill))
				to := memory{}
				w.record(70)
				for round := range 4 {
					killed := w.newLake(&failingPlace{to, t, kill + round, after})
					_ = killed.Flush(t.Context()) // fails here or in the next call
					w.record(w.rand.IntN(30))
					_ = killed.Flush(t.Context())
					w.record(w.rand.IntN(30))
				}
				l := w.newLake(&failingPlace{to, t, -1, false})
				require.NoError(t, l.Flush(t.Context()))
				w.checkRows(to)
				assert.Equal(t, l.Backlog(), 0, "backlog")
			})
		}
	}
}

func TestLake_RewrittenAfterLoss(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		w := newFixture(t, 1)
		to := folder(filepath.Join(t.TempDir(), "lake"))
		l := w.newLake(to)
		for range 2 {
			w.record(130)
			require.NoError(t, l.Flush(t.Context()))
		}
		require.NoError(t, os.RemoveAll(string(to)))
		w.record(10)
		if restarted {
			l = w.newLake(to)
		}
		require.NoError(t, l.Flush(t.Context()))
		w.checkRows(to)
	}
}

func TestLake_ForeignJournalGetsOwnName(t *testing.T) {
	w := newFixture(t, 2)
	to := folder(filepath.Join(t.TempDir(), "lake"))
	w.record(50)
	require.NoError(t, w.journal.Close())
	before := filepath.Join(t.TempDir(), "before")
	require.NoError(t, os.CopyFS(before, os.DirFS(w.dir)))
	w.openJournal()
	w.record(50)
	require.NoError(t, w.newLake(to).Flush(t.Context()))
	// Restore the journal from a backup that lacks 50 scans of the lake.
	w.dir = before
	w.openJournal()
	l := w.newLake(to)
	for range 3 {
		require.NoError(t, l.Flush(t.Context()))
		w.record(60)
	}
	require.NoError(t, w.newLake(to).Flush(t.Context()))
	w.checkRows(to)
}

func TestLake_FolderOrBucketURL(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
	for text, valid := range map[string]bool{
		"lake": true, "/srv/lake": true, "s3://bucket": true, "s3://bucket/some/prefix/": true,
		"s3://": false, "s3:///prefix": false, "gs://bucket": false, "s3://key:secret@bucket/prefix": false,
		"s3://bucket?endpoint=x": false,
	} {
		_, err := Parse(text)
		assert.True(t, (err == nil) == valid, "Parse(%q) = %v, want success: %v", text, err, valid)
		assert.True(t, err == nil || !strings.Contains(err.Error(), "secret@"), "Parse(%q) = %v, want no secret", text, err)
	}
	t.Setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
	_, err := Parse("s3://bucket")
	assert.True(t, err != nil && strings.Contains(err.Error(), "AWS_ENDPOINT_URL"), "Parse() with an invalid endpoint = %v", err)
}

func TestLake_Erasure(t *testing.T) {
	w := newFixture(t, 3)
	to := folder(filepath.Join(t.TempDir(), "lake"))
	l := w.newLake(to)
	w.record(150)
	require.NoError(t, l.Flush(t.Context()))
	// A removed node and a running node have a part each, with one scan.
	for node, id := range map[string]string{"00ff": "gone", "00aa": "living"} {
		u := newUser(5)
		empty := &scanFile{name: partName(w.now.In(time.FixedZone("", 8*3600)).Format(time.DateOnly), node, 1)}
		p, _, err := empty.merged([]Placed{{1, Row{ScanID: id, ScannedAt: w.now, UserHash: hex.EncodeToString(u[:])}}}, nil)
		require.NoError(t, err)
		require.NoError(t, to.Put(t.Context(), p.name, p.content))
	}
	l.Others = func(context.Context) (map[string]bool, error) { return map[string]bool{"00aa": true}, nil }
	upTo := w.now
	w.erased = append(w.erased, scanlog.Erasure{User: newUser(5), ErasedAt: upTo.UnixMilli()})
	w.now = w.now.Add(time.Second)
	w.record(150) // the journal still contains the user
	require.NoError(t, l.Flush(t.Context()))
	hash, kept, anonymous := hex.EncodeToString(slices.Concat(make([]byte, 3), []byte{5}, make([]byte, 12))), 0, 0
	for id, r := range readRows(t, to) {
		e, recorded := w.scans[id]
		switch {
		case !recorded:
			assert.True(t, r.UserHash == hash == (id == "living"), "user of scan %q = %q, want it for living", id, r.UserHash)
		case e.User != newUser(5):
			assert.True(t, (r.UserHash == hex.EncodeToString(e.User[:]) || e.User == newUser(0)) && r.Client == "an app",
				"scan %s of another user = %+v, want it unchanged", id, r)
		case e.OccurredAt.After(upTo):
			kept++
			assert.Equal(t, r.UserHash, hash, "user of a scan after the erasure")
		default:
			anonymous++
			assert.True(t, r.UserHash == "" && r.Client == "" && r.Network == "", "erased scan %s = %+v, want no user", id, r)
		}
	}
	assert.True(t, kept != 0 && anonymous != 0, "%d scans before the erasure, %d after, want some of both", anonymous, kept)
}

// TestLake_CompleteUntilBehindStream verifies that complete_until and the lag follow the scans that are in the lake while the shared log
// accepts no scans (UpTo stands still), also after a restart.
func TestLake_CompleteUntilBehindStream(t *testing.T) {
	w := newFixture(t, 4)
	to, upTo := folder(filepath.Join(t.TempDir(), "lake")), int64(0)
	start := func() *Lake {
		l := w.newLake(to)
		l.UpTo = func() int64 { return upTo }
		l.levelAt.Store(w.now.UnixMilli())
		return l
	}
	l, began := start(), w.now
	flush := func(step string, want, level time.Time) (at time.Time) {
		t.Helper()
		w.now = w.now.Add(idleManifest)
		require.NoError(t, l.Flush(t.Context()))
		manifests := require.Value(l.Manifests(t.Context()))(t)
		if want.IsZero() && level.IsZero() {
			want, level = w.now, w.now
		}
		require.Equal(t, len(manifests), 1, "manifests")
		assert.Equal(t, manifests[0].CompleteUntil, want, "%s: complete_until", step)
		assert.Equal(t, l.Age(), w.now.Sub(level), "%s: lag", step)
		return w.now
	}
	w.record(10)
	first := flush("no scan is shipped", time.Time{}, began)
	w.record(5)
	flush("still no scan is shipped", time.Time{}, began)
	upTo = 12
	second := flush("the scans of the first write are shipped", first, first)
	upTo = 15
	w.record(5)
	flush("the scans of the third write are shipped", second, second)
	upTo = 20
	current := flush("all scans are shipped", time.Time{}, time.Time{})
	w.record(5)
	upTo, began = 0, w.now
	l = start()
	flush("restarted while no scan is shipped", current, began)
	upTo = 25
	flush("restarted, all scans are shipped", time.Time{}, time.Time{})
	w.checkRows(to)
}

// TestLake_IncludesAcknowledgedScans verifies that a write includes scans that were acknowledged before they were in the journal. The time
// of the test stands still, so these scans reach the journal only if the write waits for them.
func TestLake_IncludesAcknowledgedScans(t *testing.T) {
	w := newFixture(t, 7)
	// The codec reuses its encoders, and those that are made in the bubble panic outside.
	defer func() { parquet.Zstd = zstd.Codec{Level: parquet.Zstd.Level} }()
	synctest.Test(t, func(t *testing.T) {
		to := memory{}
		l := w.newLake(to)
		l.Recorder = scanlog.NewRecorder(w.journal, scanlog.RecorderOptions{})
		defer l.Recorder.Close()
		require.NoError(t, assert.ErrorOf(l.Recorder.Enqueue(&scanlog.Event{ID: scanlog.ScanID{1}, OccurredAt: w.now})))
		require.NoError(t, l.Flush(t.Context()))
		assert.Equal(t, len(readRows(t, to)), 1, "scans in the lake")
	})
}

// TestLake_ErasureReachesRemovedNode verifies that a user who is erased while a dead node is still registered becomes anonymous in the
// node's files after the node is removed, also if this happens while the other node is down.
func TestLake_ErasureReachesRemovedNode(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		dead, w := newFixture(t, 5), newFixture(t, 6)
		to := folder(filepath.Join(t.TempDir(), "lake"))
		writers := map[string]bool{dead.journal.ID(): true, w.journal.ID(): true}
		start := func() *Lake {
			l := w.newLake(to)
			l.Others = func(context.Context) (map[string]bool, error) { return maps.Clone(writers), nil }
			return l
		}
		dead.record(100)
		require.NoError(t, dead.newLake(to).Flush(t.Context()))
		l := start()
		w.now = dead.now.Add(time.Hour)
		w.erased = []scanlog.Erasure{{User: newUser(5), ErasedAt: w.now.UnixMilli()}}
		countNamed := func() (n int) {
			hash := newUser(5)
			for _, r := range readRows(t, to) {
				if r.UserHash == hex.EncodeToString(hash[:]) {
					n++
				}
			}
			return n
		}
		require.NoError(t, l.Flush(t.Context()))
		require.True(t, countNamed() > 0, "no scan of a registered node names the user, want its files unchanged")
		if restarted {
			w.now = w.now.Add(time.Hour) // a later erasure of a user without scans advances erased_until
			w.erased = append(w.erased, scanlog.Erasure{User: newUser(9), ErasedAt: w.now.UnixMilli()})
			require.NoError(t, l.Flush(t.Context()))
			l = start()
		}
		delete(writers, dead.journal.ID())
		w.now = w.now.Add(time.Hour)
		require.NoError(t, l.Flush(t.Context()))
		assert.Equal(t, countNamed(), 0, "restarted %v: scans of a removed node that name the user", restarted)
	}
}
