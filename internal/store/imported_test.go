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

// drawnTail is a text of nineteen of the 44 symbols, another for each number.
func drawnTail(n int) string {
	b := []byte("0")
	for x := uint64(n)*0x9e3779b97f4a7c15 + 1; len(b) < codes.TailLength; x = x*6364136223846793005 + 1442695040888963407 {
		b = append(b, symbols44[x>>33%44])
	}
	return string(b)
}

// drawnCode is an original code, another for each number.
func drawnCode(n int) string {
	b := make([]byte, codes.CodeLength)
	for i := range b {
		b[i], n = symbols44[n%44], n/44
	}
	return string(b)
}

// printed is a whole text.
func printed(n int) string { return codes.DefaultPrefix + drawnTail(n) }

// fourColumns is a line of the wire's four columns.
func fourColumns(index int, code, text string) string {
	return fmt.Sprintf("%s %s %d %s\n", strings.Repeat("01", codes.ImportedMatrix/2)+"1", code, index, text)
}

// elsewhere are lines of codes as the platform makes them; other texts for each seed.
func elsewhere(seed, from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		b.WriteString(fourColumns(i, drawnCode(seed+i), printed(seed+i)))
	}
	return b.String()
}

func byAdmin(t *testing.T) context.Context {
	return accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
}

func beginImport(t *testing.T, p *codes.Service, isv string, count int64) codes.Batch {
	t.Helper()
	b, err := p.BeginImport(byAdmin(t), codes.NewImport{Account: "svc", ISV: isv, Count: count, Prefix: codes.DefaultPrefix})
	require.NoError(t, err)
	return b
}

// The same file is imported on two nodes at once: every code is stored once, each call
// succeeds, and what they added is the file. A third time it changes nothing.
func TestImportCodes_SameFileOnTwoNodes(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		const count, piece = 900, 100
		ids, added := [2]int64{}, [2]int64{}
		for _, err := range race(2, func(i int) error {
			b, err := p[i].BeginImport(byAdmin(t), codes.NewImport{Account: "svc", ISV: "old", Count: count, Prefix: codes.DefaultPrefix})
			if err != nil {
				return err
			}
			ids[i] = b.ID
			for from := 0; from < count; from += piece {
				done, err := p[i].ImportCodes(byAdmin(t), b.ID, int64(from+1), strings.NewReader(elsewhere(0, from, from+piece-1)))
				if err != nil {
					return err
				}
				added[i] += done.Added
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		want(t, "application", ids[1], ids[0])
		want(t, "codes added", added[0]+added[1], int64(count))
		again, err := p[1].ImportCodes(byAdmin(t), ids[0], 1, strings.NewReader(elsewhere(0, 0, count-1)))
		assert.True(t, err == nil && again == (codes.ImportResult{Lines: count, Stored: count}), "a third import: %+v, %v", again, err)
		var rows, events int
		view(t, nodes[1], func(ctx context.Context, tx *Tx) error {
			list, err := tx.codes().ImportedCodes(ctx, ids[0], codes.Range{To: count})
			rows = len(list)
			return err
		})
		for e, err := range nodes[0].Events(t.Context(), ids[0], 0) {
			assert.True(t, err == nil && e.Action == codes.Import, "%+v, %v", e, err)
			events++
		}
		want(t, "rows", rows, count)
		want(t, "events", events, count/piece)
		for i, node := range p {
			for _, index := range []int{0, 1, count / 2, count - 1} {
				for _, name := range []codes.CodeName{{URL: printed(index)}, {Code: drawnCode(index)},
					{ID: ids[0], Index: int64(index), HasIndex: true}} {
					f, err := node.Get(t.Context(), call, name)
					assert.True(t, err == nil && f.Batch.ID == ids[0] && f.Index == int64(index) && f.Code == drawnCode(index),
						"node %d, %+v: %+v, %v", i, name, f, err)
				}
				batch, _ := node.Memory.Batch(ids[0])
				code, text, err := node.Print(t.Context(), batch, int64(index))
				assert.True(t, err == nil && code == drawnCode(index) && text == printed(index),
					"node %d prints %s %s, %v", i, code, text, err)
			}
		}
	})
}

// Two files with a text in common are imported at once: one of them has the code, the
// other is refused with the line, and nothing of its piece stays.
func TestImportCodes_ConflictingFilesOnTwoNodes(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p := presses(t, nodes)
		serviceAccount(t, nodes[0])
		for round := range 10 {
			batches := [2]codes.Batch{beginImport(t, p[0], fmt.Sprint("a", round), 20), beginImport(t, p[1], fmt.Sprint("b", round), 20)}
			seed := 1000 * (round + 1)
			files := [2]string{elsewhere(seed, 0, 19), ""}
			for i := range 20 { // the other way round, so that each waits for the other
				n := seed + 500 + i
				if i == 7 {
					n = seed + 19
				}
				files[1] += fourColumns(i, drawnCode(seed+500+i), printed(n))
			}
			errs := race(2, func(i int) error {
				_, err := p[i].ImportCodes(byAdmin(t), batches[i].ID, 1, strings.NewReader(files[i]))
				return err
			})
			lost := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			require.True(t, lost >= 0 && errs[1-lost] == nil, "both or none: %v", errs)
			faults, ok := errors.AsType[accounts.RowErrors](errs[lost])
			if line := []int{20, 8}[lost]; !ok || faults[0].Line != line {
				t.Errorf("%v: want line %d", errs[lost], line)
			}
			for i, have := range []int64{int64(20 * lost), int64(20 * (1 - lost))} {
				want(t, "codes that are here", p[i].Memory.Arrived(batches[i].ID, at), have)
			}
		}
	})
}

// What is wrong with a file is said with its line, and nothing of the call stays.
func TestImportCodes_RejectsInvalidFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		p, call := presses(t, [2]*Store{s, s})[0], serviceAccount(t, s)
		own, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		toCome := codes.Batch{Prefix: codes.DefaultPrefix, Version: codes.FirstVersion, Start: 1 << 40}
		first, second := beginImport(t, p, "first", 10), beginImport(t, p, "second", 10)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(byAdmin(t), first.ID, 1, strings.NewReader(elsewhere(0, 0, 9)))))
		good := func(i int) string { return fourColumns(i, drawnCode(100+i), printed(100+i)) }
		for name, c := range map[string]struct {
			file, why string
			line      int
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
			"a doubled text":         {good(0) + fourColumns(1, "OTHER", printed(100)), "text is a duplicate of line 1", 2},
			"a doubled code":         {good(0) + fourColumns(1, drawnCode(100), printed(101)), "code is a duplicate of line 1", 2},
			"a foreign symbol":       {fourColumns(0, "AB_C", printed(100)), "column 2", 1},
			"a letter in lower case": {fourColumns(0, "ABC", strings.Replace(printed(100), "/0", "/a", 1)), "column 4", 1},
			"a code of ten":          {fourColumns(0, "ABCDEFGHIJ", printed(100)), "column 2", 1},
			"a matrix of 360":        {good(0)[1:], "column 1", 1},
			"a line too long":        {good(0) + strings.Repeat("0", 2100) + good(1), "longer than", 2},
			"another prefix":         {fourColumns(0, "ABC", "Q.EXAMPLE/"+drawnTail(100)), "prefix", 1},
			"a text of another batch": {good(0) + fourColumns(1, "ABC", printed(3)),
				fmt.Sprintf("code 3 of application %d", first.ID), 2},
			"a text of ours":                {fourColumns(0, "ABC", p.Text(own, 5)), "server generates", 1},
			"one of ours to come":           {fourColumns(0, "ABC", p.Text(toCome, 0)), "server generates", 1},
			"nothing":                       {"", "no lines", 0},
			"another file for what is here": {elsewhere(50, 0, 0), "here already", 1},
		} {
			t.Run(name, func(t *testing.T) {
				batch := second
				if strings.HasPrefix(name, "another file") {
					batch = first
				}
				_, err := p.ImportCodes(byAdmin(t), batch.ID, 1, strings.NewReader(c.file))
				require.True(t, err != nil && strings.Contains(err.Error(), c.why), "%v, want %q", err, c.why)
				faults, ok := errors.AsType[accounts.RowErrors](err)
				assert.True(t, c.line <= 0 || ok && faults[0].Line == c.line, "%v, want line %d", err, c.line)
				want(t, "codes that came", p.Memory.Arrived(second.ID, at), 0)
			})
		}
		_, err = p.ImportCodes(byAdmin(t), own.ID, 1, strings.NewReader(good(0)))
		assert.True(t, isConflict(err), "into a batch of ours: %v", err)
		// A line that ends as on Windows, columns with tabs and a byte order mark are fine.
		crlf := "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(good(0)+good(1), " ", "\t "), "\n", "\r\n")
		done, err := p.ImportCodes(byAdmin(t), second.ID, 1, strings.NewReader(strings.TrimSuffix(crlf, "\r\n")))
		assert.True(t, err == nil && done.Added == 2, "CRLF and tabs: %+v, %v", done, err)
		// Two of ten are here: nothing can be done to them.
		bind := codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "app", WxaPath: "p"}
		err = p.Activate(t.Context(), call, codes.Activation{Batch: second.ID, Binding: bind})
		assert.True(t, errors.Is(err, errcode.NotFinished), "an activation before the end: %v", err)
		for _, did := range []codes.EventType{codes.Activate, codes.Freeze, codes.Void, codes.Redeem} {
			_, err := p.Change(byAdmin(t), codes.Change{Batch: second.ID, Action: did, Codes: codes.NewSet(codes.Range{}), Binding: bind})
			assert.True(t, isConflict(err), "%s before the end: %v", did, err)
		}
		if s, _, _, err := p.Progress(t.Context(), second); err != nil || s != codes.Processing {
			t.Errorf("status %s, %v", s, err)
		}
		_, err = p.Get(t.Context(), call, codes.CodeName{ID: second.ID, Index: 5, HasIndex: true})
		assert.True(t, errors.Is(err, errcode.NotFinished), "a code that is not here: %v", err)
	})
}

func isConflict(err error) bool {
	_, is := errors.AsType[codes.Conflict](err)
	return is
}

// An import begins under the number that the codes had, and our own counting goes past it.
func TestImportCodes_KeepsApplicationID(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		p, call := presses(t, [2]*Store{s, s})[0], serviceAccount(t, s)
		own, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		begin := func(isv string, id, count int64, prefix string) (codes.Batch, error) {
			return p.BeginImport(byAdmin(t), codes.NewImport{Account: "svc", ISV: isv, ID: id, Count: count, Prefix: prefix})
		}
		next, err := begin("old", own.ID+1, 10, codes.DefaultPrefix)
		require.True(t, err == nil && next.ID == own.ID+1, "%+v, %v", next, err)
		again, err := begin("old", own.ID+1, 10, codes.DefaultPrefix)
		assert.True(t, err == nil && again == next, "again: %+v, %v", again, err)
		later, err := p.Apply(t.Context(), call, codes.Application{ISV: "later", Count: 10_000})
		assert.True(t, err == nil && later.ID == own.ID+2, "our next application: %+v, %v", later, err)
		for what, c := range map[string]struct {
			isv       string
			id, count int64
			prefix    string
		}{
			"an id of ours":          {"new", own.ID, 10, codes.DefaultPrefix},
			"an id of an import":     {"new", next.ID, 10, codes.DefaultPrefix},
			"an order of ours":       {"own", 0, 10_000, codes.DefaultPrefix},
			"another count":          {"old", 0, 11, codes.DefaultPrefix},
			"another prefix":         {"old", 0, 10, "Q.EXAMPLE/"},
			"another id than before": {"old", own.ID + 9, 10, codes.DefaultPrefix},
		} {
			b, err := begin(c.isv, c.id, c.count, c.prefix)
			assert.True(t, isConflict(err), "%s: %+v, %v", what, b, err)
		}
		for what, c := range map[string]struct {
			id, count int64
			prefix    string
		}{
			"no codes": {0, 0, codes.DefaultPrefix}, "too many": {0, 200_000_001, codes.DefaultPrefix},
			"an id above 2^31":        {1 << 31, 1, codes.DefaultPrefix},
			"a prefix without a host": {0, 1, "/"}, "one in lower case": {0, 1, "p.url.cn/"},
		} {
			b, err := begin("wrong", c.id, c.count, c.prefix)
			assert.True(t, err != nil, "%s: %+v", what, b)
		}
		// The keys are those that it was imported under.
		assert.NoError(t, p.CheckKeys(t.Context()))
		other := presses(t, [2]*Store{s, s})[0]
		other.Vault, err = sealer.NewKey([]byte(strings.Repeat("o", 32)))
		require.NoError(t, err)
		assert.True(t, other.CheckKeys(t.Context()) != nil, "another key is taken for the right one")
	})
}

// Nine characters can be those of a code of ours and of one made elsewhere: they name
// the caller's own, or that of the application that is named too.
func TestImportCodes_AmbiguousShortCode(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		p, call := presses(t, [2]*Store{s, s})[0], serviceAccount(t, s)
		own, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		same := p.Code(own, 7)
		b := beginImport(t, p, "old", 1)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(byAdmin(t), b.ID, 1, strings.NewReader(fourColumns(0, same, printed(1))))))
		f, err := p.Get(t.Context(), call, codes.CodeName{Code: same})
		assert.ErrorIs(t, err, errcode.InvalidArgs, "two codes have it: %+v", f)
		for id, index := range map[int64]int64{own.ID: 7, b.ID: 0} {
			f, err := p.Get(t.Context(), call, codes.CodeName{Code: same, ID: id})
			assert.True(t, err == nil && f.Batch.ID == id && f.Index == index, "of %d: %+v, %v", id, f, err)
		}
	})
}

// Nothing of a text is in the database as it was printed.
func TestImportCodes_NoPlaintextAtRest(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		p := presses(t, [2]*Store{s, s})[0]
		serviceAccount(t, s)
		b := beginImport(t, p, "old", 50)
		require.NoError(t, assert.ErrorOf(p.ImportCodes(byAdmin(t), b.ID, 1, strings.NewReader(elsewhere(0, 0, 49)))))
		var all strings.Builder
		for table, rows := range rowsOf(t, s) {
			fmt.Fprintln(&all, table, rows)
		}
		for i := range 50 {
			if tail := drawnTail(i); strings.Contains(all.String(), tail) || strings.Contains(all.String(), tail[1:]) {
				t.Errorf("the text of code %d is in clear", i)
			}
		}
	})
}

// An import is taken back in pieces, the other node learns each, and in the end the
// application is gone; its numbers and its texts go to another one.
func TestImportCodes_Undo(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		const count = 12_000
		first, err := p[0].BeginImport(byAdmin(t), codes.NewImport{Account: "svc", ISV: "old", ID: 77, Count: count, Prefix: "Q.EXAMPLE/"})
		require.NoError(t, err)
		file := strings.ReplaceAll(elsewhere(0, 0, count-1), codes.DefaultPrefix, "Q.EXAMPLE/")
		require.NoError(t, assert.ErrorOf(p[0].ImportCodes(byAdmin(t), first.ID, 1, strings.NewReader(file))))
		require.NoError(t, assert.ErrorOf(p[0].BindSerials(byAdmin(t), first.ID, []codes.Serial{{Index: 7, Serial: "bottle-7"}}, false)))
		text := "Q.EXAMPLE/" + drawnTail(7)
		nobody := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
		for i, node := range p {
			follow(t, node, first.ID)
			s, ok := node.Scan(text, "", nobody)
			assert.True(t, ok && s.Batch.ID == first.ID, "node %d before: %+v, %v", i, s, ok)
		}
		// A part alone: the rest stays, and nothing can be done to it before the part is back.
		part := codes.Range{From: 5, To: 9}
		if done, err := p[1].UndoImport(byAdmin(t), first.ID, part, ""); err != nil ||
			done != (codes.ImportUndone{Removed: 5, Stored: count - 5}) {
			t.Errorf("a part: %+v, %v", done, err)
		}
		if done, err := p[0].UndoImport(byAdmin(t), first.ID, part, ""); err != nil || done != (codes.ImportUndone{Stored: count - 5}) {
			t.Errorf("the part again: %+v, %v", done, err)
		}
		_, err = p[0].Change(byAdmin(t), codes.Change{Batch: first.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{})})
		assert.True(t, isConflict(err), "a freeze while codes are missing: %v", err)
		whole := codes.Range{To: count - 1}
		if done, err := p[0].UndoImport(byAdmin(t), first.ID, whole, "wrong prefix"); err != nil || !done.More || done.Removed != 10_000 {
			t.Fatalf("the first piece: %+v, %v", done, err)
		}
		if done, err := p[1].UndoImport(byAdmin(t), first.ID, whole, ""); err != nil ||
			done != (codes.ImportUndone{Removed: count - 5 - 10_000}) {
			t.Fatalf("the second: %+v, %v", done, err)
		}
		var rows, serials int
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			list, err := tx.codes().ImportedCodes(ctx, first.ID, whole)
			if err != nil {
				return err
			}
			have, err := tx.codes().Serials(ctx, first.ID, []int64{7})
			rows, serials = len(list), len(have)
			return err
		})
		want(t, "rows and serial numbers", [2]int{rows, serials}, [2]int{})
		for i, node := range p {
			follow(t, node, first.ID)
			assert.ErrorIs(t, assert.ErrorOf(node.Memory.BatchOrLoad(t.Context(), first.ID)), codes.ErrNoBatch, "node %d still knows it", i)
			_, err := node.Query(t.Context(), call, codes.BatchKey{ISV: "old"})
			assert.True(t, errors.Is(err, errcode.NoApplication), "node %d, by its isv: %v", i, err)
			s, ok := node.Scan(text, "", nobody)
			assert.True(t, !ok, "node %d after: %+v", i, s)
			want(t, "batches", len(node.Memory.Batches()), 0)
			_, err = node.ImportCodes(byAdmin(t), first.ID, 1, strings.NewReader(file))
			assert.True(t, errors.Is(err, codes.ErrNoBatch), "node %d, an import into it: %v", i, err)
		}
		fresh := codes.NewMemory(nodes[0])
		if err := fresh.Load(t.Context()); err != nil || len(fresh.Batches()) != 0 || len(fresh.ImportedPrefixes()) != 0 {
			t.Errorf("a new start knows %v %v, %v", fresh.Batches(), fresh.ImportedPrefixes(), err)
		}
		checked, err := nodes[0].VerifyChanges(t.Context())
		assert.True(t, err == nil && checked.FirstError == nil, "the audit log: %+v, %v", checked, err)
		// The same numbers, with another count and prefix.
		again, err := p[1].BeginImport(byAdmin(t), codes.NewImport{Account: "svc", ISV: "old", ID: 77, Count: 10,
			Prefix: codes.DefaultPrefix})
		require.True(t, err == nil && again.ID == 77 && again.Count == 10, "again: %+v, %v", again, err)
		done, err := p[0].ImportCodes(byAdmin(t), 77, 1, strings.NewReader(elsewhere(0, 0, 9)))
		require.True(t, err == nil && done.Stored == 10, "its codes: %+v, %v", done, err)
		for i, node := range p {
			follow(t, node, 77)
			s, ok := node.Scan(printed(7), "", nobody)
			assert.True(t, ok && s.Batch == again && s.Index == 7, "node %d, a code of the new one: %+v, %v", i, s, ok)
			s, ok = node.Scan(text, "", nobody)
			assert.True(t, !ok, "node %d, a text of the old one: %+v", i, s)
		}
		checked, err = nodes[1].VerifyChanges(t.Context())
		assert.True(t, err == nil && checked.FirstError == nil, "the audit log: %+v, %v", checked, err)
	})
}

// follow lets a node read what is new of a batch, as the log of changes does.
func follow(t *testing.T, p *codes.Service, batch int64) {
	t.Helper()
	require.NoError(t, p.Memory.Changed(t.Context(), batch))
}

// What was done with imported codes keeps them: the error says what it was.
func TestImportCodes_UndoRefusedAfterUse(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		p, call := presses(t, [2]*Store{s, s})[0], serviceAccount(t, s)
		own, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		_, err = p.UndoImport(byAdmin(t), own.ID, codes.Range{}, "")
		assert.True(t, isConflict(err), "codes of ours: %v", err)
		assert.ErrorIs(t, assert.ErrorOf(p.UndoImport(byAdmin(t), 4711, codes.Range{}, "")), codes.ErrNoBatch, "no application")
		for i, use := range []struct {
			why string
			do  func(codes.Batch) error
		}{
			{"frozen", func(b codes.Batch) error {
				// Also where it was undone: somebody was told of it.
				for _, did := range []codes.EventType{codes.Freeze, codes.Unfreeze} {
					if _, err := p.Change(byAdmin(t), codes.Change{Batch: b.ID, Action: did,
						Codes: codes.NewSet(codes.Range{})}); err != nil {
						return err
					}
				}
				return nil
			}},
			{"scanned", func(b codes.Batch) error {
				return s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
					return tx.AddFirstScans(t.Context(), []codes.FirstScan{{Batch: b.ID, Index: 3, At: at, Scan: "1"}})
				})
			}},
			{"printer p has codes (package 1)", func(b codes.Batch) error {
				_, err := p.MakePackage(byAdmin(t), codes.PackageRequest{Batch: b.ID, Codes: codes.Range{To: 4}, Printer: "printer p",
					Formats: []string{"csv"}})
				return err
			}},
		} {
			b := beginImport(t, p, use.why, 10)
			file := elsewhere(100*(i+1), 0, 9)
			require.NoError(t, assert.ErrorOf(p.ImportCodes(byAdmin(t), b.ID, 1, strings.NewReader(file))))
			require.NoError(t, use.do(b))
			_, err := p.UndoImport(byAdmin(t), b.ID, codes.Range{To: 9}, "")
			assert.True(t, isConflict(err) && strings.Contains(err.Error(), use.why), "%v, want %s", err, use.why)
			want(t, "codes that are here", p.Memory.Arrived(b.ID, at), 10)
		}
	})
}

// Codes are taken back on one node while they are activated on the other: one of the two is refused, and an active code is always there.
func TestImportCodes_UndoDuringActivation(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p := presses(t, nodes)
		serviceAccount(t, nodes[0])
		for round := range 10 {
			b := beginImport(t, p[0], fmt.Sprint("r", round), 10)
			seed := 1000 * (round + 1)
			require.NoError(t, assert.ErrorOf(p[0].ImportCodes(byAdmin(t), b.ID, 1, strings.NewReader(elsewhere(seed, 0, 9)))))
			follow(t, p[1], b.ID)
			errs := race(2, func(i int) error {
				if i == 0 {
					_, err := p[0].UndoImport(byAdmin(t), b.ID, codes.Range{To: 9}, "")
					return err
				}
				_, err := p[1].Change(byAdmin(t), codes.Change{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{To: 9})})
				return err
			})
			require.True(t, (errs[0] == nil) != (errs[1] == nil), "both or none: %v", errs)
			var rows int
			view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
				list, err := tx.codes().ImportedCodes(ctx, b.ID, codes.Range{To: 9})
				rows = len(list)
				return err
			})
			assert.True(t, (rows == 10) == (errs[1] == nil), "%d rows after %v", rows, errs)
		}
	})
}
