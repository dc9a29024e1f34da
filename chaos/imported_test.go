package chaos_test

import (
	"errors"
	"fmt"
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

// TestCodeImport_KillBetweenPieces kills a server while two callers import the same file, between two parts and within them. Acknowledged
// parts survive, the import is repeated from the first line, and at the end each code exists once.
func TestCodeImport_KillBetweenPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const part, callers = 200, 2
	count, kills := choose[int64](6000, 1600), choose(3, 2)
	const matrix = 361 // characters
	var parts []string
	var list strings.Builder
	list.WriteString("index,code,code_text\r\n")
	for i := int64(0); i < count; i += part {
		var b strings.Builder
		for n := i; n < i+part; n++ {
			fmt.Fprintf(&b, "%s OLD%06d %d OLD.EXAMPLE/0$%017d\n", strings.Repeat("0", matrix), n, n, n)
			list.WriteString(fmt.Sprintf("%d,OLD%06d,OLD.EXAMPLE/0$%017d\r\n", n, n, n))
		}
		parts = append(parts, b.String())
	}
	runOnEachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		// importFile imports the file until it is complete or a call fails: lines were acknowledged, added of them were new, and available
		// codes are stored.
		importFile := func(c *api.Client, onAcknowledged func()) (id, lines, added, available int64, err error) {
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", Count: count, Prefix: "OLD.EXAMPLE/"})
			for _, p := range parts {
				if err != nil {
					break
				}
				var done api.CodesImported
				done, err = c.Batches.ImportCodes(t.Context(), b.ID, api.CodeImportQuery{Line: lines + 1}, strings.NewReader(p))
				if err == nil {
					lines, added, available = lines+done.Lines, added+done.Added, done.Available
					onAcknowledged()
				}
			}
			return b.ID, lines, added, available, err
		}
		var batch, kept, added int64
		for range kills {
			var clients sync.WaitGroup
			var mu sync.Mutex
			var dead atomic.Bool
			var left atomic.Int64 // acknowledgements until the kill, which interrupts the other caller
			left.Store(int64(1 + chance.IntN(callers*len(parts)/2)))
			client := adminClient(t, s.URL)
			for range callers {
				clients.Go(func() {
					id, lines, fresh, _, err := importFile(client, func() {
						if left.Add(-1) == 0 {
							dead.Store(true)
							s.kill()
						}
					})
					mu.Lock()
					defer mu.Unlock()
					if problem, refused := errors.AsType[*api.Problem](err); refused || !dead.Load() {
						t.Errorf("an import failed before the kill: %v, %v", problem, err)
					}
					batch, kept, added = max(batch, id), max(kept, lines), added+fresh
				})
			}
			clients.Wait()
			require.True(t, !t.Failed(), "an import failed before the kill")
			s = s.restart(child)
		}
		id, lines, fresh, available, err := importFile(adminClient(t, s.URL), func() {})
		require.True(t, err == nil && id == batch && lines == count && available == count,
			"repeated import: application %d, %d lines, %d stored, %v; want application %d and %d codes", id, lines, available, err,
			batch, count)
		assert.True(t, fresh <= count-kept && added+fresh <= count,
			"%d codes were new at the end; %d were acknowledged before, %d of them as new", fresh, kept, added)
		t.Logf("%d codes acknowledged before the last kill, %d new after it", kept, fresh)
		_, _, fresh, available, err = importFile(adminClient(t, s.URL), func() {})
		assert.True(t, fresh == 0 && available == count && err == nil, "a third import: %d new, %d stored, %v; want 0 and %d", fresh,
			available, err, count)

		exported := mustSend(t, http.MethodGet, fmt.Sprintf("%s/admin/v1/batches/%d/codes?from=0&to=%d", s.URL, batch, count-1), "", "",
			adminToken)
		assert.True(t, exported.body == list.String(), "the exported codes differ: status %d, %d bytes, want %d: %.300s",
			exported.status, len(exported.body), list.Len(), exported.body)
		admin := mustConnect(t, s.URL, adminToken)
		admin.activate(admin.stableToken("brand"), batch, count, "shop")
		key := admin.scanKey("app")
		scans := mustConnect(t, s.URL, key)
		for _, i := range []int64{0, chance.Int64N(count), count - 1} {
			d := scans.scan(fmt.Sprintf("OLD.EXAMPLE/0$%017d", i))
			assert.True(t, d.opens(), "code %d: %v, want the page", i, d)
		}
		s.stop()
	})
}

// TestCodeImportRevert_KillBetweenPieces kills a server while an import is undone part by part. Acknowledged parts are undone, each part is
// undone completely or not at all, and at the end the same file can be imported under the same ids.
func TestCodeImportRevert_KillBetweenPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const part = 200
	count, kills := choose[int64](4000, 2000), choose(3, 2)
	var file strings.Builder
	for n := range count {
		fmt.Fprintf(&file, "%s OLD%06d %d OLD.EXAMPLE/0$%017d\n", strings.Repeat("0", 361), n, n, n)
	}
	runOnEachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		importFile := func(id int64) {
			c := adminClient(t, s.URL)
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", ID: id, Count: count, Prefix: "OLD.EXAMPLE/"})
			if err == nil {
				_, err = c.Batches.ImportCodes(t.Context(), b.ID, api.CodeImportQuery{}, strings.NewReader(file.String()))
			}
			require.True(t, err == nil && b.ID == id, "application %d, want %d: %v", b.ID, id, err)
		}
		const id = 77
		importFile(id)
		undone := int64(0) // acknowledged
		for range kills {
			c, left := adminClient(t, s.URL), 1+chance.IntN(int(count)/part/(kills+1))
			var dead atomic.Bool
			var clients sync.WaitGroup
			for first := undone; first < count && !dead.Load(); first = undone {
				if left--; left == 0 {
					dead.Store(true)
					clients.Go(s.kill) // before, within or after the next part
				}
				_, err := c.Batches.UndoImport(t.Context(), id, api.ImportToUndo{From: first, To: first + part - 1})
				if err == nil {
					undone += part
				} else if !dead.Load() {
					t.Fatal(err)
				}
			}
			clients.Wait()
			s = s.restart(child)
			b, err := adminClient(t, s.URL).Batches.Get(t.Context(), id)
			require.True(t, err == nil && (b.Arrived == count-undone || b.Arrived == count-undone-part),
				"%d of %d codes are stored after %d were undone, %v", b.Arrived, count, undone, err)
			undone = count - b.Arrived
		}
		done, err := adminClient(t, s.URL).Batches.UndoImport(t.Context(), id, api.ImportToUndo{From: 0, To: count - 1})
		require.True(t, err == nil && done == (api.ImportUndone{Removed: count - undone}), "undo of the rest = %+v, %v, want %d codes",
			done, err, count-undone)
		s.kill()
		s = s.restart(child)
		if b, err := adminClient(t, s.URL).Batches.Get(t.Context(), id); err == nil {
			t.Errorf("after the last part the application is %+v, want none", b)
		}
		importFile(id)
		s.stop()
	})
}

// TestTextImport_KillWithinPieces kills a server at random times while a list of texts is imported. Each part is stored completely or not
// at all, acknowledged parts survive, no code of an incomplete import opens anything, and the repeated import adds the rest.
func TestTextImport_KillWithinPieces(t *testing.T) {
	seed := testdiag.Seed(t)
	const part = 200
	count, kills := choose[int64](6000, 1600), choose(4, 3)
	text := func(i int64) string { return fmt.Sprintf("https://old.example/c/aBcD-中文-%08d", i) }
	var parts []string
	for i := int64(0); i < count; i += part {
		var b strings.Builder
		for n := i; n < i+part; n++ {
			b.WriteString(text(n) + "\n")
		}
		parts = append(parts, b.String())
	}
	runOnEachBackend(t, func(t *testing.T, database string) {
		chance := rand.New(rand.NewPCG(seed, 1))
		child := newChild(t, database, spaceSeed)
		s := start(t, child)
		var id int64
		// importFile imports the list from its first line until it is complete or a call fails, and calls before for each part.
		importFile := func(before func()) (lines, added int64, err error) {
			c := adminClient(t, s.URL)
			b, err := c.Batches.CreateImport(t.Context(), "brand", api.NewImport{ISV: "old", Count: count,
				Text: "https://old.example/c/{token:8-64}"})
			for i := 0; err == nil && i < len(parts); i++ {
				before()
				var done api.CodesImported
				from := api.CodeImportQuery{Line: lines + 1, Start: lines}
				done, err = c.Batches.ImportCodes(t.Context(), b.ID, from, strings.NewReader(parts[i]))
				lines, added = lines+done.Lines, added+done.Added
			}
			id = max(id, b.ID)
			return lines, added, err
		}
		admin := mustConnect(t, s.URL, adminToken)
		key := admin.scanKey("app")
		var available int64
		for range kills {
			left := len(parts)/(kills+1)*(1+chance.IntN(kills)) + 1
			var killed sync.WaitGroup
			lines, _, err := importFile(func() {
				if left--; left == 0 {
					killed.Go(s.kill) // before, within or after the next part
				}
			})
			killed.Wait()
			s = s.restart(child)
			if problem, refused := errors.AsType[*api.Problem](err); refused {
				t.Fatalf("the import failed before the kill: %v", problem)
			}
			b, err := adminClient(t, s.URL).Batches.Get(t.Context(), id)
			require.NoError(t, err)
			assert.True(t, b.Arrived%part == 0 && b.Arrived >= max(lines, available) && b.Arrived <= max(lines+part, available),
				"after a kill %d codes are stored, %d lines were acknowledged, and %d codes were stored before",
				b.Arrived, lines, available)
			if available = b.Arrived; available == count {
				continue
			}
			assert.Equal(t, b.Status, "PROCESSING", "the status of an incomplete import of %d codes", available)
			if d := mustConnect(t, s.URL, key).scan(text(0)); d.opens() {
				t.Errorf("a code of an incomplete import opens %+v, want nothing", d)
			}
		}
		lines, added, err := importFile(func() {})
		require.True(t, err == nil && lines == count && added == count-available,
			"repeated import: %d lines, %d codes are new, want %d and %d: %v", lines, added, count, count-available, err)
		admin = mustConnect(t, s.URL, adminToken)
		admin.activate(admin.stableToken("brand"), id, count, "shop")
		scans := mustConnect(t, s.URL, key)
		for _, i := range []int64{0, chance.Int64N(count), count - 1} {
			d := scans.scan(text(i))
			assert.True(t, d.opens(), "code %d: %v, want the page", i, d)
		}
		if d := scans.scan(text(count)); d.opens() {
			t.Errorf("a text that is not in the list opens %+v, want nothing", d)
		}
		t.Logf("%d codes were stored after the last kill, %d were added after it", available, added)
		s.stop()
	})
}
