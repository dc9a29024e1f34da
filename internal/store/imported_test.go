package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const symbols44 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ$-%*+./:"

// randomTail returns the last 19 symbols of a printed text. Each n has a different one.
func randomTail(n int) string {
	b := []byte("0")
	for x := uint64(n)*0x9e3779b97f4a7c15 + 1; len(b) < codes.TailLength; x = x*6364136223846793005 + 1442695040888963407 {
		b = append(b, symbols44[x>>33%44])
	}
	return string(b)
}

// randomCode returns an original code. Each n has a different one.
func randomCode(n int) string {
	b := make([]byte, codes.CodeLength)
	for i := range b {
		b[i], n = symbols44[n%44], n/44
	}
	return string(b)
}

// printedText returns the text of a printed code.
func printedText(n int) string { return codes.DefaultPrefix + randomTail(n) }

// importLine returns a line of an import file: matrix, code, index and text.
func importLine(index int, code, text string) string {
	return fmt.Sprintf("%s %s %d %s\n", strings.Repeat("01", codes.ImportedMatrix/2)+"1", code, index, text)
}

// importLines returns the lines of codes from to to, with different codes for each seed.
func importLines(seed, from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		b.WriteString(importLine(i, randomCode(seed+i), printedText(seed+i)))
	}
	return b.String()
}

func adminCtx(t *testing.T) context.Context {
	return accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
}

func beginImport(t *testing.T, p *codes.Service, isv string, count int64) codes.Batch {
	t.Helper()
	n := codes.NewImport{Account: "svc", ISV: isv, Count: count, Prefix: codes.DefaultPrefix}
	return require.Value(p.BeginImport(adminCtx(t), n))(t)
}

// TestImportCodes_SameFileOnTwoNodes imports a file on two nodes concurrently: all calls succeed and each code is stored once. A third
// import changes nothing.
func TestImportCodes_SameFileOnTwoNodes(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		const count, piece = 900, 100
		ids, added := [2]int64{}, [2]int64{}
		for _, err := range race(2, func(i int) error {
			b, err := p[i].BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: "old", Count: count, Prefix: codes.DefaultPrefix})
			if err != nil {
				return err
			}
			ids[i] = b.ID
			for from := 0; from < count; from += piece {
				done, err := p[i].ImportCodes(adminCtx(t), b.ID, int64(from+1), strings.NewReader(importLines(0, from, from+piece-1)))
				if err != nil {
					return err
				}
				added[i] += done.Added
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		check(t, "application", ids[1], ids[0])
		check(t, "codes added", added[0]+added[1], int64(count))
		third, err := p[1].ImportCodes(adminCtx(t), ids[0], 1, strings.NewReader(importLines(0, 0, count-1)))
		assert.True(t, err == nil && third == (codes.ImportResult{Lines: count, Stored: count}), "third import = %+v, %v", third, err)
		var rows, events int
		view(t, nodes[1], func(ctx context.Context, tx *Tx) error {
			list, err := tx.codes().ImportedCodes(ctx, ids[0], codes.Range{To: count})
			rows = len(list)
			return err
		})
		for e, err := range nodes[0].Events(t.Context(), ids[0], 0) {
			assert.True(t, err == nil && e.Action == codes.Import, "event = %+v, %v, want an import", e, err)
			events++
		}
		check(t, "rows", rows, count)
		check(t, "events", events, count/piece)
		for i, node := range p {
			for _, index := range []int{0, 1, count / 2, count - 1} {
				for _, name := range []codes.CodeName{{URL: printedText(index)}, {Code: randomCode(index)},
					{ID: ids[0], Index: int64(index), HasIndex: true}} {
					f, err := node.Get(t.Context(), call, name)
					assert.True(t, err == nil && f.Batch.ID == ids[0] && f.Index == int64(index) && f.Code == randomCode(index),
						"Get(%+v) on node %d = %+v, %v", name, i, f, err)
				}
				batch, _ := node.Memory.Batch(ids[0])
				code, text, err := node.Print(t.Context(), batch, int64(index))
				assert.True(t, err == nil && code == randomCode(index) && text == printedText(index),
					"Print() on node %d = %s, %s, %v", i, code, text, err)
			}
		}
	})
}

// TestImportCodes_ConflictingFilesOnTwoNodes imports two files with a common text concurrently. One import succeeds, the other is rejected
// with the line and stores nothing.
func TestImportCodes_ConflictingFilesOnTwoNodes(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p := newCodeServices(t, nodes)
		addServiceAccount(t, nodes[0])
		for round := range 10 {
			batches := [2]codes.Batch{beginImport(t, p[0], fmt.Sprint("a", round), 20), beginImport(t, p[1], fmt.Sprint("b", round), 20)}
			seed := 1000 * (round + 1)
			files := [2]string{importLines(seed, 0, 19), ""}
			for i := range 20 { // in reverse order, which would deadlock without sorted locks
				n := seed + 500 + i
				if i == 7 {
					n = seed + 19
				}
				files[1] += importLine(i, randomCode(seed+500+i), printedText(n))
			}
			errs := race(2, func(i int) error {
				_, err := p[i].ImportCodes(adminCtx(t), batches[i].ID, 1, strings.NewReader(files[i]))
				return err
			})
			loser := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			require.True(t, loser >= 0 && errs[1-loser] == nil, "errors = %v, want one nil", errs)
			rowErrors, ok := errors.AsType[accounts.RowErrors](errs[loser])
			if line := []int{20, 8}[loser]; !ok || rowErrors[0].Line != line {
				t.Errorf("ImportCodes() = %v, want an error on line %d", errs[loser], line)
			}
			for i, stored := range []int64{int64(20 * loser), int64(20 * (1 - loser))} {
				check(t, "stored codes", p[i].Memory.Arrived(batches[i].ID, t0), stored)
			}
		}
	})
}

// TestImportCodes_RejectsInvalidFile verifies the reason and the line of the error for invalid files, of which nothing is stored.
func TestImportCodes_RejectsInvalidFile(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		generated, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		future := codes.Batch{Prefix: codes.DefaultPrefix, Version: codes.FirstVersion, Start: 1 << 40}
		first, second := beginImport(t, p, "first", 10), beginImport(t, p, "second", 10)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(adminCtx(t), first.ID, 1, strings.NewReader(importLines(0, 0, 9)))))
		good := func(i int) string { return importLine(i, randomCode(100+i), printedText(100+i)) }
		for name, c := range map[string]struct {
			file, reason string
			line         int
		}{
			"a cut line":             {good(0) + good(1)[:300], "four columns, not 1", 2},
			"a text cut short":       {good(0) + strings.TrimSuffix(good(1), "\n")[:len(good(1))-3], "prefix", 2},
			"three columns":          {good(0) + strings.Replace(good(1), " 1 ", " ", 1), "four columns, not 3", 2},
			"five columns":           {good(0) + strings.Replace(good(1), " 1 ", " 1 1 ", 1), "four columns, not 5", 2},
			"commas":                 {strings.ReplaceAll(good(0), " ", ","), "four columns, not 1", 1},
			"an empty line":          {good(0) + "\n" + good(1), "four columns, not 0", 2},
			"a header":               {"matrix code index text\n" + good(0), "column 1", 1},
			"a doubled index":        {good(0) + strings.Replace(good(1), " 1 ", " 0 ", 1), "index 0 follows 0", 2},
			"the wrong order":        {good(1) + good(0), "index 0 follows 1", 2},
			"a gap":                  {good(0) + good(2), "index 2 follows 0", 2},
			"an index past the end":  {good(9) + good(10), "indexes 0 to 9", 2},
			"no index":               {strings.Replace(good(0), " 0 ", " -1 ", 1), "not an index", 1},
			"a doubled text":         {good(0) + importLine(1, "OTHER", printedText(100)), "text is a duplicate of line 1", 2},
			"a doubled code":         {good(0) + importLine(1, randomCode(100), printedText(101)), "code is a duplicate of line 1", 2},
			"a foreign symbol":       {importLine(0, "AB_C", printedText(100)), "column 2", 1},
			"a letter in lower case": {importLine(0, "ABC", strings.Replace(printedText(100), "/0", "/a", 1)), "column 4", 1},
			"a code of ten":          {importLine(0, "ABCDEFGHIJ", printedText(100)), "column 2", 1},
			"a matrix of 360":        {good(0)[1:], "column 1", 1},
			"a line too long":        {good(0) + strings.Repeat("0", 2100) + good(1), "longer than", 2},
			"another prefix":         {importLine(0, "ABC", "Q.EXAMPLE/"+randomTail(100)), "prefix", 1},
			"a text of another batch": {good(0) + importLine(1, "ABC", printedText(3)),
				fmt.Sprintf("code 3 of application %d", first.ID), 2},
			"a text of a generated batch":   {importLine(0, "ABC", p.Text(generated, 5)), "server generates", 1},
			"a text of a future batch":      {importLine(0, "ABC", p.Text(future, 0)), "server generates", 1},
			"an empty file":                 {"", "no lines", 0},
			"another file for stored codes": {importLines(50, 0, 0), "here already", 1},
		} {
			t.Run(name, func(t *testing.T) {
				batch := second
				if strings.HasPrefix(name, "another file") {
					batch = first
				}
				_, err := p.ImportCodes(adminCtx(t), batch.ID, 1, strings.NewReader(c.file))
				require.True(t, err != nil && strings.Contains(err.Error(), c.reason), "ImportCodes() = %v, want %q", err, c.reason)
				rowErrors, ok := errors.AsType[accounts.RowErrors](err)
				assert.True(t, c.line <= 0 || ok && rowErrors[0].Line == c.line,
					"ImportCodes() = %v, want an error on line %d", err, c.line)
				check(t, "stored codes", p.Memory.Arrived(second.ID, t0), 0)
			})
		}
		_, err = p.ImportCodes(adminCtx(t), generated.ID, 1, strings.NewReader(good(0)))
		assert.True(t, isConflict(err), "import into a generated batch: error = %v, want a conflict", err)
		// CRLF, tabs between columns and a byte order mark are accepted.
		crlf := "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(good(0)+good(1), " ", "\t "), "\n", "\r\n")
		done, err := p.ImportCodes(adminCtx(t), second.ID, 1, strings.NewReader(strings.TrimSuffix(crlf, "\r\n")))
		assert.True(t, err == nil && done.Added == 2, "ImportCodes() with CRLF and tabs = %+v, %v, want 2 added", done, err)
		// Codes of an incomplete import cannot be used.
		bind := codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "app", WxaPath: "p"}
		err = p.Activate(t.Context(), call, codes.Activation{Batch: second.ID, Binding: bind})
		assert.ErrorIs(t, err, errcode.NotFinished, "an activation during the import")
		for _, action := range []codes.EventType{codes.Activate, codes.Freeze, codes.Void, codes.Redeem} {
			_, err := p.Change(adminCtx(t),
				codes.Change{Batch: second.ID, Action: action, Codes: codes.NewSet(codes.Range{}), Binding: bind})
			assert.True(t, isConflict(err), "%s during the import: error = %v, want a conflict", action, err)
		}
		if s, _, _, err := p.Progress(t.Context(), second); err != nil || s != codes.Processing {
			t.Errorf("Progress() = %s, %v, want %s", s, err, codes.Processing)
		}
		_, err = p.Get(t.Context(), call, codes.CodeName{ID: second.ID, Index: 5, HasIndex: true})
		assert.ErrorIs(t, err, errcode.NotFinished, "a code that is not imported yet")
	})
}

func isConflict(err error) bool {
	_, ok := errors.AsType[codes.Conflict](err)
	return ok
}

// TestImportCodes_KeepsApplicationID imports a batch with its former application ID, which generated batches then skip.
func TestImportCodes_KeepsApplicationID(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		generated := require.Value(p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000}))(t)
		begin := func(isv string, id, count int64, prefix string) (codes.Batch, error) {
			return p.BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: isv, ID: id, Count: count, Prefix: prefix})
		}
		next, err := begin("old", generated.ID+1, 10, codes.DefaultPrefix)
		require.True(t, err == nil && next.ID == generated.ID+1, "BeginImport() = %+v, %v, want ID %d", next, err, generated.ID+1)
		repeated, err := begin("old", generated.ID+1, 10, codes.DefaultPrefix)
		assert.True(t, err == nil && repeated == next, "repeated BeginImport() = %+v, %v, want %+v", repeated, err, next)
		later, err := p.Apply(t.Context(), call, codes.Application{ISV: "later", Count: 10_000})
		assert.True(t, err == nil && later.ID == generated.ID+2, "Apply() = %+v, %v, want ID %d", later, err, generated.ID+2)
		for name, c := range map[string]struct {
			isv       string
			id, count int64
			prefix    string
		}{
			"the ID of a generated batch":  {"new", generated.ID, 10, codes.DefaultPrefix},
			"the ID of an import":          {"new", next.ID, 10, codes.DefaultPrefix},
			"the ISV of a generated batch": {"own", 0, 10_000, codes.DefaultPrefix},
			"another count":                {"old", 0, 11, codes.DefaultPrefix},
			"another prefix":               {"old", 0, 10, "Q.EXAMPLE/"},
			"another ID":                   {"old", generated.ID + 9, 10, codes.DefaultPrefix},
		} {
			b, err := begin(c.isv, c.id, c.count, c.prefix)
			assert.True(t, isConflict(err), "BeginImport() with %s = %+v, %v, want a conflict", name, b, err)
		}
		for name, c := range map[string]struct {
			id, count int64
			prefix    string
		}{
			"no codes": {0, 0, codes.DefaultPrefix}, "too many codes": {0, 200_000_001, codes.DefaultPrefix},
			"an ID above 2^31":        {1 << 31, 1, codes.DefaultPrefix},
			"a prefix without a host": {0, 1, "/"}, "a prefix in lower case": {0, 1, "p.url.cn/"},
		} {
			b, err := begin("wrong", c.id, c.count, c.prefix)
			assert.True(t, err != nil, "BeginImport() with %s = %+v, want an error", name, b)
		}
		// The keys are checked with the imported codes.
		assert.NoError(t, p.CheckKeys(t.Context()))
		withOtherKey := newCodeServices(t, [2]*Store{s, s})[0]
		withOtherKey.Vault = require.Value(sealer.NewKey([]byte(strings.Repeat("o", 32))))(t)
		assert.True(t, withOtherKey.CheckKeys(t.Context()) != nil, "CheckKeys() with another key = nil, want an error")
	})
}

// TestImportCodes_AmbiguousShortCode looks up a short code that a generated and an imported code have. It is ambiguous without the
// application ID.
func TestImportCodes_AmbiguousShortCode(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		generated := require.Value(p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000}))(t)
		code := p.Code(generated, 7)
		b := beginImport(t, p, "old", 1)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(adminCtx(t), b.ID, 1, strings.NewReader(importLine(0, code, printedText(1))))))
		f, err := p.Get(t.Context(), call, codes.CodeName{Code: code})
		assert.ErrorIs(t, err, errcode.InvalidArgs, "Get() of an ambiguous code, %+v,", f)
		for id, index := range map[int64]int64{generated.ID: 7, b.ID: 0} {
			f, err := p.Get(t.Context(), call, codes.CodeName{Code: code, ID: id})
			assert.True(t, err == nil && f.Batch.ID == id && f.Index == index,
				"Get() with ID %d = %+v, %v, want index %d", id, f, err, index)
		}
	})
}

// TestImportCodes_NoPlaintextAtRest searches the tables for the texts of imported codes.
func TestImportCodes_NoPlaintextAtRest(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p := newCodeServices(t, [2]*Store{s, s})[0]
		addServiceAccount(t, s)
		b := beginImport(t, p, "old", 50)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(adminCtx(t), b.ID, 1, strings.NewReader(importLines(0, 0, 49)))))
		var all strings.Builder
		for table, rows := range exportTables(t, s) {
			fmt.Fprintln(&all, table, rows)
		}
		for i := range 50 {
			if tail := randomTail(i); strings.Contains(all.String(), tail) || strings.Contains(all.String(), tail[1:]) {
				t.Errorf("a table holds the text of code %d", i)
			}
		}
	})
}

// TestImportCodes_Undo undoes an import in parts, which both nodes see. At the end the application does not exist, and another import can
// use its ID and texts.
func TestImportCodes_Undo(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		const count = 12_000
		first, err := p[0].BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: "old", ID: 77, Count: count, Prefix: "Q.EXAMPLE/"})
		require.NoError(t, err)
		file := strings.ReplaceAll(importLines(0, 0, count-1), codes.DefaultPrefix, "Q.EXAMPLE/")
		require.NoError(t, assert.ErrorOf(p[0].ImportCodes(adminCtx(t), first.ID, 1, strings.NewReader(file))))
		require.NoError(t, assert.ErrorOf(p[0].BindSerials(adminCtx(t), first.ID, []codes.Serial{{Index: 7, Serial: "bottle-7"}}, false)))
		text := "Q.EXAMPLE/" + randomTail(7)
		for i, node := range p {
			refreshBatch(t, node, first.ID)
			s, ok := node.Scan(text, "", noAccount)
			assert.True(t, ok && s.Batch.ID == first.ID, "Scan() on node %d = %+v, %v, want batch %d", i, s, ok, first.ID)
		}
		// A part is undone. The other codes remain and cannot be changed while codes are missing.
		part := codes.Range{From: 5, To: 9}
		if done, err := p[1].UndoImport(adminCtx(t), first.ID, part, ""); err != nil ||
			done != (codes.ImportUndone{Removed: 5, Stored: count - 5}) {
			t.Errorf("UndoImport() of a part = %+v, %v, want 5 removed", done, err)
		}
		if done, err := p[0].UndoImport(adminCtx(t), first.ID, part, ""); err != nil || done != (codes.ImportUndone{Stored: count - 5}) {
			t.Errorf("repeated UndoImport() of the part = %+v, %v, want none removed", done, err)
		}
		_, err = p[0].Change(adminCtx(t), codes.Change{Batch: first.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{})})
		assert.True(t, isConflict(err), "a freeze while codes are missing: error = %v, want a conflict", err)
		all := codes.Range{To: count - 1}
		if done, err := p[0].UndoImport(adminCtx(t), first.ID, all, "wrong prefix"); err != nil || !done.More || done.Removed != 10_000 {
			t.Fatalf("UndoImport() = %+v, %v, want 10000 removed and more", done, err)
		}
		if done, err := p[1].UndoImport(adminCtx(t), first.ID, all, ""); err != nil ||
			done != (codes.ImportUndone{Removed: count - 5 - 10_000}) {
			t.Fatalf("second UndoImport() = %+v, %v, want the others removed", done, err)
		}
		var rows, serials int
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			list, err := tx.codes().ImportedCodes(ctx, first.ID, all)
			if err != nil {
				return err
			}
			have, err := tx.codes().Serials(ctx, first.ID, []int64{7})
			rows, serials = len(list), len(have)
			return err
		})
		check(t, "rows and serial numbers", [2]int{rows, serials}, [2]int{})
		for i, node := range p {
			refreshBatch(t, node, first.ID)
			assert.ErrorIs(t, assert.ErrorOf(node.Memory.BatchOrLoad(t.Context(), first.ID)), codes.ErrNoBatch, "the batch on node %d", i)
			_, err := node.Query(t.Context(), call, codes.BatchKey{ISV: "old"})
			assert.ErrorIs(t, err, errcode.NoApplication, "a query on node %d by ISV", i)
			s, ok := node.Scan(text, "", noAccount)
			assert.True(t, !ok, "Scan() on node %d = %+v after the undo, want none", i, s)
			check(t, "batches", len(node.Memory.Batches()), 0)
			_, err = node.ImportCodes(adminCtx(t), first.ID, 1, strings.NewReader(file))
			assert.ErrorIs(t, err, codes.ErrNoBatch, "an import on node %d into the undone batch", i)
		}
		fresh := codes.NewMemory(nodes[0])
		if err := fresh.Load(t.Context()); err != nil || len(fresh.Batches()) != 0 || len(fresh.ImportedPrefixes()) != 0 {
			t.Errorf("a new replica has batches %v and prefixes %v, %v, want none", fresh.Batches(), fresh.ImportedPrefixes(), err)
		}
		checkAuditLog(t, nodes[0])
		// The same ID and codes, with another count and prefix.
		second, err := p[1].BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: "old", ID: 77, Count: 10,
			Prefix: codes.DefaultPrefix})
		require.True(t, err == nil && second.ID == 77 && second.Count == 10, "second BeginImport() = %+v, %v", second, err)
		done, err := p[0].ImportCodes(adminCtx(t), 77, 1, strings.NewReader(importLines(0, 0, 9)))
		require.True(t, err == nil && done.Stored == 10, "second ImportCodes() = %+v, %v, want 10 stored", done, err)
		for i, node := range p {
			refreshBatch(t, node, 77)
			s, ok := node.Scan(printedText(7), "", noAccount)
			assert.True(t, ok && s.Batch == second && s.Index == 7, "Scan() on node %d = %+v, %v, want code 7 of %d", i, s, ok, second.ID)
			s, ok = node.Scan(text, "", noAccount)
			assert.True(t, !ok, "Scan() of a text of the first import on node %d = %+v, want none", i, s)
		}
		checkAuditLog(t, nodes[1])
	})
}

// refreshBatch reads the changes of a batch into the node's memory, as the replica does.
func refreshBatch(t *testing.T, p *codes.Service, batch int64) {
	t.Helper()
	require.NoError(t, p.Memory.Changed(t.Context(), batch))
}

// TestImportCodes_UndoRefusedAfterUse verifies that an import cannot be undone after its codes are used. The error has the use.
func TestImportCodes_UndoRefusedAfterUse(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		generated, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		_, err = p.UndoImport(adminCtx(t), generated.ID, codes.Range{}, "")
		assert.True(t, isConflict(err), "undo of a generated batch: error = %v, want a conflict", err)
		assert.ErrorIs(t, assert.ErrorOf(p.UndoImport(adminCtx(t), 4711, codes.Range{}, "")), codes.ErrNoBatch, "undo of an unknown batch")
		for i, use := range []struct {
			reason string
			do     func(codes.Batch) error
		}{
			{"frozen", func(b codes.Batch) error {
				// A freeze counts as use even if it is undone.
				for _, action := range []codes.EventType{codes.Freeze, codes.Unfreeze} {
					if _, err := p.Change(adminCtx(t), codes.Change{Batch: b.ID, Action: action,
						Codes: codes.NewSet(codes.Range{})}); err != nil {
						return err
					}
				}
				return nil
			}},
			{"scanned", func(b codes.Batch) error {
				return s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
					return tx.AddFirstScans(t.Context(), []codes.FirstScan{{Batch: b.ID, Index: 3, At: t0, Scan: "1"}})
				})
			}},
			{"printer p has codes (package 1)", func(b codes.Batch) error {
				_, err := p.MakePackage(adminCtx(t), codes.PackageRequest{Batch: b.ID, Codes: codes.Range{To: 4}, Printer: "printer p",
					Formats: []string{"csv"}})
				return err
			}},
		} {
			b := beginImport(t, p, use.reason, 10)
			file := importLines(100*(i+1), 0, 9)
			require.NoError(t, assert.ErrorOf(p.ImportCodes(adminCtx(t), b.ID, 1, strings.NewReader(file))))
			require.NoError(t, use.do(b))
			_, err := p.UndoImport(adminCtx(t), b.ID, codes.Range{To: 9}, "")
			assert.True(t, isConflict(err) && strings.Contains(err.Error(), use.reason), "UndoImport() = %v, want %q", err, use.reason)
			check(t, "stored codes", p.Memory.Arrived(b.ID, t0), 10)
		}
	})
}

// TestImportCodes_UndoDuringActivation undoes an import on one node while its codes are frozen on the other. One of the two is rejected,
// and the codes exist if the freeze succeeds.
func TestImportCodes_UndoDuringActivation(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p := newCodeServices(t, nodes)
		addServiceAccount(t, nodes[0])
		for round := range 10 {
			b := beginImport(t, p[0], fmt.Sprint("r", round), 10)
			seed := 1000 * (round + 1)
			require.NoError(t, assert.ErrorOf(p[0].ImportCodes(adminCtx(t), b.ID, 1, strings.NewReader(importLines(seed, 0, 9)))))
			refreshBatch(t, p[1], b.ID)
			errs := race(2, func(i int) error {
				if i == 0 {
					_, err := p[0].UndoImport(adminCtx(t), b.ID, codes.Range{To: 9}, "")
					return err
				}
				_, err := p[1].Change(adminCtx(t), codes.Change{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{To: 9})})
				return err
			})
			require.True(t, (errs[0] == nil) != (errs[1] == nil), "errors = %v, want one nil", errs)
			var rows int
			view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
				list, err := tx.codes().ImportedCodes(ctx, b.ID, codes.Range{To: 9})
				rows = len(list)
				return err
			})
			assert.True(t, (rows == 10) == (errs[1] == nil), "%d rows after errors %v", rows, errs)
		}
	})
}
