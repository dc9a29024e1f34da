package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestCodeImport_KillBetweenPieces kills a server while two callers import the same file,
// between two pieces of it and within them. Pieces that were acknowledged stay, the file
// is brought again from its first line, and at the end each code is there once.
func TestCodeImport_KillBetweenPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const piece, callers = 200, 2
	count, kills := amount[int64](6000, 1600), amount(3, 2)
	const matrix = 361 // characters
	var pieces []string
	var list strings.Builder
	list.WriteString("index,code,code_text\r\n")
	for i := int64(0); i < count; i += piece {
		var b strings.Builder
		for n := i; n < i+piece; n++ {
			fmt.Fprintf(&b, "%s OLD%06d %d OLD.EXAMPLE/0$%017d\n", strings.Repeat("0", matrix), n, n, n)
			list.WriteString(fmt.Sprintf("%d,OLD%06d,OLD.EXAMPLE/0$%017d\r\n", n, n, n))
		}
		pieces = append(pieces, b.String())
	}
	eachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		// bring imports the file until it is all there or the server ends: lines are
		// those that were acknowledged, added those of them that were new.
		bring := func(acknowledged func()) (id, lines, added, have int64, err error) {
			c, err := api.New(s.URL, api.Options{AdminToken: adminToken})
			if err != nil {
				return 0, 0, 0, 0, err
			}
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", Count: count, Prefix: "OLD.EXAMPLE/"})
			for _, p := range pieces {
				if err != nil {
					break
				}
				var done api.CodesImported
				done, err = c.Batches.ImportCodes(t.Context(), b.ID, api.CodeImportQuery{Line: lines + 1}, strings.NewReader(p))
				if err == nil {
					lines, added, have = lines+done.Lines, added+done.Added, done.Available
					acknowledged()
				}
			}
			return b.ID, lines, added, have, err
		}
		var batch, kept, added int64
		for range kills {
			var all sync.WaitGroup
			var mu sync.Mutex
			var dead atomic.Bool
			var left atomic.Int64 // acknowledgements until the kill, which finds the other caller in its piece
			left.Store(int64(1 + chance.IntN(callers*len(pieces)/2)))
			for range callers {
				all.Go(func() {
					id, lines, new, _, err := bring(func() {
						if left.Add(-1) == 0 {
							dead.Store(true)
							s.kill()
						}
					})
					mu.Lock()
					defer mu.Unlock()
					if problem, refused := errors.AsType[*api.Problem](err); refused || !dead.Load() {
						t.Errorf("before the kill: %v, %v", problem, err)
					}
					batch, kept, added = max(batch, id), max(kept, lines), added+new
				})
			}
			all.Wait()
			if t.Failed() {
				s.kill()
			}
			s.gone()
			endSessions(t, database)
			s = start(t, child)
			if t.Failed() {
				return
			}
		}
		id, lines, new, have, err := bring(func() {})
		require.True(t, err == nil && id == batch && lines == count && have == count,
			"the same file again: application %d (was %d), %d lines, %d are here, %v", id, batch, lines, have, err)
		assert.True(t, new <= count-kept && added+new <= count,
			"%d codes were new at the end; %d were acknowledged before, %d of them as new", new, kept, added)
		t.Logf("%d codes acknowledged before the last kill, %d new after it", kept, new)
		if _, _, again, have, err := bring(func() {}); again != 0 || have != count || err != nil {
			t.Errorf("once more: %d new, %d here, %v", again, have, err)
		}

		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			fmt.Sprintf("%s/admin/v1/batches/%d/codes?from=0&to=%d", s.URL, batch, count-1), nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != list.String() {
			t.Errorf("the list of codes is another: %d, %d bytes, %v: %.300s", resp.StatusCode, len(got), err, got)
		}
		admin := must{connect(t, s.URL, adminToken), t}
		admin.activate(admin.stableToken("brand"), batch, count, "shop")
		key := admin.scanKey("app")
		scans := must{connect(t, s.URL, key), t}
		for _, i := range []int64{0, chance.Int64N(count), count - 1} {
			d := scans.scan(fmt.Sprintf("OLD.EXAMPLE/0$%017d", i))
			assert.True(t, d.opens(), "code %d: %v", i, d)
		}
		s.stop()
	})
}

// adminClient returns a client of the admin API of a server.
func adminClient(t *testing.T, s *process) *api.Client {
	t.Helper()
	c, err := api.New(s.URL, api.Options{AdminToken: adminToken})
	require.NoError(t, err)
	return c
}

// TestCodeImportRevert_KillBetweenPieces kills a server while an import is taken back, piece by
// piece. What was acknowledged is gone, a piece is gone whole or not at all, and in the
// end the same file comes again under the same numbers.
func TestCodeImportRevert_KillBetweenPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const piece = 200
	count, kills := amount[int64](4000, 2000), amount(3, 2)
	var file strings.Builder
	for n := range count {
		fmt.Fprintf(&file, "%s OLD%06d %d OLD.EXAMPLE/0$%017d\n", strings.Repeat("0", 361), n, n, n)
	}
	eachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		bring := func(id int64) {
			c := adminClient(t, s)
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", ID: id, Count: count, Prefix: "OLD.EXAMPLE/"})
			if err == nil {
				_, err = c.Batches.ImportCodes(t.Context(), b.ID, api.CodeImportQuery{}, strings.NewReader(file.String()))
			}
			require.True(t, err == nil && b.ID == id, "application %d, want %d: %v", b.ID, id, err)
		}
		const id = 77
		bring(id)
		taken := int64(0) // acknowledged
		for range kills {
			c, left := adminClient(t, s), 1+chance.IntN(int(count)/piece/(kills+1))
			var dead atomic.Bool
			var all sync.WaitGroup
			for first := taken; first < count && !dead.Load(); first = taken {
				if left--; left == 0 {
					dead.Store(true)
					all.Go(s.kill) // within the next piece, before it, or after it
				}
				_, err := c.Batches.UndoImport(t.Context(), id, api.ImportToUndo{From: first, To: first + piece - 1})
				if err == nil {
					taken += piece
				} else if !dead.Load() {
					t.Fatal(err)
				}
			}
			all.Wait()
			s.gone()
			endSessions(t, database)
			s = start(t, child)
			b, err := adminClient(t, s).Batches.Get(t.Context(), id)
			require.True(t, err == nil && (b.Arrived == count-taken || b.Arrived == count-taken-piece),
				"%d are here, and %d were taken back: %v", b.Arrived, taken, err)
			taken = count - b.Arrived
		}
		done, err := adminClient(t, s).Batches.UndoImport(t.Context(), id, api.ImportToUndo{From: 0, To: count - 1})
		require.True(t, err == nil && done == (api.ImportUndone{Removed: count - taken}), "the rest: %+v, %v", done, err)
		s.kill()
		s.gone()
		endSessions(t, database)
		s = start(t, child)
		if b, err := adminClient(t, s).Batches.Get(t.Context(), id); err == nil {
			t.Errorf("after the last piece: %+v", b)
		}
		bring(id)
		s.stop()
	})
}

// TestTextImport_KillWithinPieces kills a server while a list of texts is imported, at any time of a piece. A piece is there whole or not
// at all, what was acknowledged stays, no code of a part opens anything, and the same list again adds the rest.
func TestTextImport_KillWithinPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const piece = 200
	count, kills := amount[int64](6000, 1600), amount(4, 3)
	text := func(i int64) string { return fmt.Sprintf("https://old.example/c/aBcD-中文-%08d", i) }
	var pieces []string
	for i := int64(0); i < count; i += piece {
		var b strings.Builder
		for n := i; n < i+piece; n++ {
			b.WriteString(text(n) + "\n")
		}
		pieces = append(pieces, b.String())
	}
	eachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 1))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		var id int64
		// bring imports the list from its first line until it is there or the server ends; before is called before each piece.
		bring := func(before func()) (lines, added int64, err error) {
			c := adminClient(t, s)
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", Count: count,
				Text: "https://old.example/c/{token:8-64}"})
			for i := 0; err == nil && i < len(pieces); i++ {
				before()
				var done api.CodesImported
				from := api.CodeImportQuery{Line: lines + 1, Start: lines}
				done, err = c.Batches.ImportCodes(t.Context(), b.ID, from, strings.NewReader(pieces[i]))
				lines, added = lines+done.Lines, added+done.Added
			}
			id = max(id, b.ID)
			return lines, added, err
		}
		admin := must{connect(t, s.URL, adminToken), t}
		key := admin.scanKey("app")
		var available int64
		for range kills {
			left := len(pieces)/(kills+1)*(1+chance.IntN(kills)) + 1
			var killed sync.WaitGroup
			lines, _, err := bring(func() {
				if left--; left == 0 {
					killed.Go(s.kill) // before the next piece, within it, or after it
				}
			})
			killed.Wait()
			s.gone()
			endSessions(t, database)
			s = start(t, child)
			if problem, refused := errors.AsType[*api.Problem](err); refused {
				t.Fatalf("before the kill: %v", problem)
			}
			b, err := adminClient(t, s).Batches.Get(t.Context(), id)
			require.NoError(t, err)
			assert.True(t, b.Arrived%piece == 0 && b.Arrived >= max(lines, available) && b.Arrived <= max(lines+piece, available),
				"after a kill %d codes are there, %d lines were acknowledged now and %d codes were there before",
				b.Arrived, lines, available)
			if available = b.Arrived; available == count {
				continue
			}
			assert.Equal(t, b.Status, "PROCESSING", "the status of a part of %d codes", available)
			if d := (must{connect(t, s.URL, key), t}).scan(text(0)); d.opens() {
				t.Errorf("a code of a part opens %+v", d)
			}
		}
		lines, added, err := bring(func() {})
		require.True(t, err == nil && lines == count && added == count-available,
			"the same list again: %d lines, %d codes are new, want %d and %d: %v", lines, added, count, count-available, err)
		admin = must{connect(t, s.URL, adminToken), t}
		admin.activate(admin.stableToken("brand"), id, count, "shop")
		scans := must{connect(t, s.URL, key), t}
		for _, i := range []int64{0, chance.Int64N(count), count - 1} {
			if d := scans.scan(text(i)); !d.opens() {
				t.Errorf("code %d: %+v", i, d)
			}
		}
		if d := scans.scan(text(count)); d.opens() {
			t.Errorf("a text that is not in the list opens %+v", d)
		}
		t.Logf("%d codes were there after the last kill, %d were new after it", available, added)
		s.stop()
	})
}
