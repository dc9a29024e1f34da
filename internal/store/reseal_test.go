package store

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSealedColumns_AllListed verifies that the location of each call of Seal in the source is in the list of sealed columns. A value that
// is not in the list would stay sealed by the old key after a rotation of the master key.
func TestSealedColumns_AllListed(t *testing.T) {
	// Except for the keys, these are kept by a browser for some minutes: after a rotation the user begins again.
	known := map[string]bool{"sealing_keys/": true, "people/pending/": true, "login_flow": true, "consent/reference": true}
	for _, c := range sealed {
		known[c.place] = true
	}
	root, found := filepath.Join("..", ".."), 0
	require.NoError(t, filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); slices.Contains([]string{"testdata", "node_modules", ".git", "compat", "bench"}, name) ||
			dir == filepath.Join(root, "internal", "infra", "sealer") {
			return filepath.SkipDir
		}
		p := goPackage{token.NewFileSet(), map[string]*ast.File{}}
		entries := require.Value(os.ReadDir(dir))(t)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				p.files[name] = require.Value(parser.ParseFile(p.set, name, nil, parser.SkipObjectResolution))(t)
			}
		}
		for file, tree := range p.files {
			ast.Inspect(tree, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 2 {
					return true
				}
				if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Seal" {
					return true
				}
				found++
				// The key rotation and the import of accounts take the location from the list.
				name, ok := call.Args[0].(*ast.Ident)
				dir, base := filepath.Split(file)
				if ok && name.Name == "location" && filepath.Clean(dir) == filepath.Join(root, "internal", "server") &&
					slices.Contains([]string{"key_rotation.go", "backup.go"}, base) {
					return true
				}
				position := p.set.Position(call.Pos())
				if prefix, ok := p.literalPrefix(call.Args[0]); !ok {
					t.Errorf("%s: the location of this Seal does not begin with a literal", position)
				} else if !known[prefix] {
					t.Errorf("%s: the location %q is not in the list of internal/store/reseal.go", position, prefix)
				}
				return true
			})
		}
		return nil
	}))
	assert.True(t, found >= 6, "%d calls of Seal found, want at least 6", found)
}

// goPackage is the source of a package without its tests.
type goPackage struct {
	set   *token.FileSet
	files map[string]*ast.File
}

// literalPrefix returns the literal with which an expression begins. It evaluates functions and constants of the package.
func (p goPackage) literalPrefix(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		text, _, _ = strings.Cut(text, "%")
		return text, err == nil
	case *ast.BinaryExpr:
		return p.literalPrefix(e.X)
	case *ast.ParenExpr:
		return p.literalPrefix(e.X)
	case *ast.CallExpr:
		switch f := e.Fun.(type) {
		case *ast.SelectorExpr:
			if f.Sel.Name == "Sprintf" {
				return p.literalPrefix(e.Args[0])
			}
			return p.returnedPrefix(f.Sel.Name)
		case *ast.Ident:
			return p.returnedPrefix(f.Name)
		}
	case *ast.Ident:
		for _, file := range p.files {
			for _, d := range file.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.CONST {
					continue
				}
				for _, s := range g.Specs {
					s := s.(*ast.ValueSpec)
					if i := slices.IndexFunc(s.Names, func(n *ast.Ident) bool { return n.Name == e.Name }); i >= 0 && i < len(s.Values) {
						return p.literalPrefix(s.Values[i])
					}
				}
			}
		}
	}
	return "", false
}

// returnedPrefix returns the literal with which the result of a function begins.
func (p goPackage) returnedPrefix(name string) (string, bool) {
	for _, file := range p.files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != name || f.Body == nil || len(f.Body.List) != 1 {
				continue
			}
			if r, ok := f.Body.List[0].(*ast.ReturnStmt); ok && len(r.Results) == 1 {
				return p.literalPrefix(r.Results[0])
			}
		}
	}
	return "", false
}

func TestSealedColumns_MatchSchema(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, c := range sealed {
			for _, name := range append([]string{c.column}, c.keys...) {
				exists := slices.ContainsFunc(listColumns(t, s, c.table),
					func(column string) bool { return strings.HasPrefix(column, name+" ") })
				assert.True(t, exists, "table %s has no column %s", c.table, name)
			}
		}
		for _, table := range tableNames(t, s) {
			for _, column := range listColumns(t, s, table) {
				name, _, _ := strings.Cut(column, " ")
				listed := slices.ContainsFunc(sealed, func(c sealedColumn) bool { return c.table == table && c.column == name })
				assert.True(t, name != "sealed" || table == "sealing_keys" || listed,
					"column %s.%s is not in the list of reseal.go", table, name)
			}
		}
	})
}

var errCrash = errors.New("the process crashed")

// writeSealedTexts stores texts in sealed columns and returns them by location: more than two pages, and rows without a sealed text.
func writeSealedTexts(t *testing.T, target Target) (texts, keys map[string]string) {
	t.Helper()
	s := require.Value(Open(t.Context(), target))(t)
	texts, keys = map[string]string{}, map[string]string{"one": "key one", "two": "key two"}
	update(t, s, func(ctx context.Context, tx *Tx) error {
		for i := range 2*resealPage + 7 {
			token := accounts.Token{Hash: fmt.Sprintf("h%04d", i), AppID: "wxa", Kind: accounts.Stable, IssuedAt: t0, ExpiresAt: t0}
			if i%3 != 0 {
				token.Sealed = "text of " + token.Hash
				texts["access_tokens/"+token.Hash] = token.Sealed
			}
			if err := tx.accounts().PutToken(ctx, token); err != nil {
				return err
			}
		}
		for _, appid := range []string{"a", "b/c", "扫"} {
			a := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, MarketcodeKey: "key of " + appid}
			c := accounts.Component{AppID: appid, MessageToken: "token of " + appid, EncodingAESKey: "aes of " + appid}
			texts["accounts/marketcode_key/"+appid] = a.MarketcodeKey
			texts["components/message_token/"+appid] = c.MessageToken
			texts["components/encoding_aes_key/"+appid] = c.EncodingAESKey
			if err := errors.Join(tx.accounts().PutAccount(ctx, a), tx.accounts().PutComponent(ctx, c)); err != nil {
				return err
			}
		}
		return nil
	})
	for name, text := range keys {
		require.NoError(t, assert.ErrorOf(s.FirstSealedKey(t.Context(), name, text)))
	}
	require.NoError(t, s.Close())
	return texts, keys
}

func TestReseal_EveryColumn(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, target Target) {
		texts, keys := writeSealedTexts(t, target)
		s := openAlone(t, withDataDir(t, target))
		require.NoError(t, assert.ErrorOf(s.SaveState(t.Context(), "base", "test", t0)))
		// reseal replaces the prefix of each text. It fails at text number failAt.
		reseal := func(oldPrefix, newPrefix string, failAt int) (seen, seenKeys map[string]string, err error) {
			seen, seenKeys = map[string]string{}, map[string]string{}
			replace := func(seenTexts map[string]string) func(string, string) (string, error) {
				return func(name, text string) (string, error) {
					text, found := strings.CutPrefix(text, oldPrefix)
					assert.True(t, found, "text of %s = %q, want the prefix %q", name, text, oldPrefix)
					if seenTexts[name] = text; len(seen)+len(seenKeys) == failAt {
						return "", errCrash
					}
					return newPrefix + text, nil
				}
			}
			done, err := s.Reseal(t.Context(), replace(seenKeys), replace(seen))
			want := Resealed{Secrets: len(texts)}
			if oldPrefix == "" {
				want.Snapshots = 1 // a snapshot has sealed texts too
			}
			assert.True(t, err != nil || done == want, "Reseal() = %+v, want %+v", done, want)
			return seen, seenKeys, err
		}
		for _, failAt := range []int{1, len(texts) / 2, len(texts), len(texts) + 1, len(texts) + 2} {
			_, _, err := reseal("", "lost ", failAt)
			require.ErrorIs(t, err, errCrash, "Reseal that fails at text %d", failAt)
		}
		for _, round := range [][2]string{{"", "2 "}, {"2 ", "3 "}} {
			seen, seenKeys, err := reseal(round[0], round[1], 0)
			require.NoError(t, err)
			check(t, "texts", seen, texts)
			check(t, "keys", seenKeys, keys)
		}
		check(t, "snapshots", queryInt(t, s, `SELECT COUNT(*) FROM snapshots`), 0)
		unsealed := queryInt(t, s, `SELECT COUNT(*) FROM access_tokens WHERE sealed = ''`)
		assert.Equal(t, unsealed, (2*resealPage+7+2)/3, "tokens without a text")
	})
}

// openAlone calls OpenAlone until PostgreSQL has closed the connections of processes that have ended.
func openAlone(t *testing.T, target Target) *Store {
	t.Helper()
	s, err := OpenAlone(t.Context(), target)
	for errors.Is(err, ErrInUse) {
		s, err = OpenAlone(t.Context(), target)
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// withDataDir sets the data directory of a target if it has none.
func withDataDir(t *testing.T, target Target) Target {
	if target.Dir == "" {
		target.Dir = t.TempDir()
	}
	return target
}

// TestReseal_OldKeysWipedFromFile verifies that the database file does not hold the old keys, which the old master key could open. It may
// hold other old texts in unused pages, which were sealed by a deleted key.
func TestReseal_OldKeysWipedFromFile(t *testing.T) {
	target := newEmbedded(t)
	writeSealedTexts(t, target)
	dump := func() (all string) {
		t.Helper()
		for _, name := range []string{"qrjump.db", "qrjump.db-wal"} {
			b, err := os.ReadFile(filepath.Join(target.Dir, name))
			require.True(t, err == nil || errors.Is(err, fs.ErrNotExist), "%v", err)
			all += string(b)
		}
		return all
	}
	old := []string{"key one", "key two"}
	for _, text := range old {
		require.True(t, strings.Contains(dump(), text), "the file does not hold %q before Reseal", text)
	}
	s := require.Value(OpenAlone(t.Context(), target))(t)
	n := 0
	replace := func(string, string) (string, error) {
		n++
		return fmt.Sprintf("%d, which is longer than the old text", n), nil
	}
	require.NoError(t, assert.ErrorOf(s.Reseal(t.Context(), replace, replace)))
	require.NoError(t, s.Close())
	for _, text := range old {
		assert.True(t, !strings.Contains(dump(), text), "the file holds %q after Reseal", text)
	}
}

func TestOpenAlone_RejectsOtherProcesses(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, target Target) {
		target = withDataDir(t, target)
		s := require.Value(Open(t.Context(), target))(t)
		if second, err := OpenAlone(t.Context(), target); err == nil {
			second.Close()
			t.Fatal("OpenAlone() succeeds while another process has the database open")
		} else if !strings.Contains(err.Error(), "in use") {
			t.Error(err)
		}
		require.NoError(t, s.Close())
		openAlone(t, target)
		if second, err := OpenAlone(t.Context(), target); err == nil {
			second.Close()
			t.Fatal("a second OpenAlone() succeeds")
		}
	})
}

// TestReseal_OldKeyProcessLockedOut verifies that no process can open the store during Reseal, and that a process with the old keys cannot
// use it afterwards.
func TestReseal_OldKeyProcessLockedOut(t *testing.T) {
	t.Parallel()
	target := withDataDir(t, newPostgres(t))
	writeSealedTexts(t, target)
	served, err := Open(t.Context(), target)
	require.NoError(t, err)
	defer served.Close()
	served.Fence("two", "key two")
	require.NoError(t, served.Ping(t.Context()))
	_, err = OpenAlone(t.Context(), Target{URL: target.URL, Dir: t.TempDir()})
	require.ErrorIs(t, err, ErrInUse, "OpenAlone while a process serves")
	// The connections of the process are closed, as by a network failure.
	served.write.SetMaxIdleConns(0)
	alone := openAlone(t, target)
	assert.NoErrorf(t, served.Ping(t.Context()), "Ping() before Reseal")
	reseal := func(name, old string) (string, error) {
		if late, err := Open(t.Context(), target); err == nil {
			late.Close()
			t.Error("Open() during Reseal succeeds")
		} else if !strings.Contains(err.Error(), "being rotated") {
			t.Error(err)
		}
		return "new " + name, nil
	}
	rotate := func(reseal func(name, old string) (string, error)) {
		t.Helper()
		err := ErrInUse
		for errors.Is(err, ErrInUse) { // until PostgreSQL detects the end of the connection
			_, err = alone.Reseal(t.Context(), reseal, func(_, old string) (string, error) { return old, nil })
		}
		require.NoError(t, err)
	}
	rotate(reseal)
	err = served.Ping(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "restart this process"),
		"Ping() of a process with the old keys = %v, want an error", err)
	// The rejected connection is closed, so that it does not block exclusive use.
	rotate(func(name, _ string) (string, error) { return "newer " + name, nil })
	assert.NoErrorf(t, open(t, target).Ping(t.Context()), "Ping() of a new process")
}
