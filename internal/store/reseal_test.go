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

// An author that seals something new must say so in the list, or a turn of the master key would leave it sealed by a key that is gone.
func TestSealedColumns_AllListed(t *testing.T) {
	// All but the first a browser keeps for some minutes: after a turn somebody begins anew.
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
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				p.files[name], err = parser.ParseFile(p.set, name, nil, parser.SkipObjectResolution)
				require.NoError(t, err)
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
				// The rotation of the key and the import of accounts seal what the list says.
				name, ok := call.Args[0].(*ast.Ident)
				dir, base := filepath.Split(file)
				if ok && name.Name == "location" && filepath.Clean(dir) == filepath.Join(root, "internal", "server") &&
					slices.Contains([]string{"key_rotation.go", "backup.go"}, base) {
					return true
				}
				where := p.set.Position(call.Pos())
				if text, ok := p.beginning(call.Args[0]); !ok {
					t.Errorf("%s: the place of this Seal does not begin with a literal text, so nobody can see where it seals", where)
				} else if !known[text] {
					t.Errorf("%s: something is sealed for %q, which is not on the list in internal/store/reseal.go", where, text)
				}
				return true
			})
		}
		return nil
	}))
	assert.True(t, found >= 6, "found %d calls of Seal: this test looks in the wrong place", found)
}

// goPackage is the code of a folder, without its tests.
type goPackage struct {
	set   *token.FileSet
	files map[string]*ast.File
}

// beginning is the literal text that an expression begins with, through functions and constants of the package.
func (p goPackage) beginning(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		text, _, _ = strings.Cut(text, "%")
		return text, err == nil
	case *ast.BinaryExpr:
		return p.beginning(e.X)
	case *ast.ParenExpr:
		return p.beginning(e.X)
	case *ast.CallExpr:
		switch f := e.Fun.(type) {
		case *ast.SelectorExpr:
			if f.Sel.Name == "Sprintf" {
				return p.beginning(e.Args[0])
			}
			return p.result(f.Sel.Name)
		case *ast.Ident:
			return p.result(f.Name)
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
						return p.beginning(s.Values[i])
					}
				}
			}
		}
	}
	return "", false
}

// result is the beginning of what a function returns.
func (p goPackage) result(name string) (string, bool) {
	for _, file := range p.files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != name || f.Body == nil || len(f.Body.List) != 1 {
				continue
			}
			if r, ok := f.Body.List[0].(*ast.ReturnStmt); ok && len(r.Results) == 1 {
				return p.beginning(r.Results[0])
			}
		}
	}
	return "", false
}

func TestSealedColumns_MatchSchema(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, c := range sealed {
			for _, name := range append([]string{c.column}, c.keys...) {
				if !slices.ContainsFunc(columnsOf(t, s, c.table), func(column string) bool { return strings.HasPrefix(column, name+" ") }) {
					t.Errorf("%s has no column %s", c.table, name)
				}
			}
		}
		for _, table := range tables(t, s) {
			for _, column := range columnsOf(t, s, table) {
				name, _, _ := strings.Cut(column, " ")
				listed := slices.ContainsFunc(sealed, func(c sealedColumn) bool { return c.table == table && c.column == name })
				assert.True(t, name != "sealed" || table == "sealing_keys" || listed, "%s.%s is not on the list in reseal.go", table, name)
			}
		}
	})
}

var errCrash = errors.New("the process ended here")

// fillSealed stores texts in sealed columns and returns them by their places: more than two pages, and rows that have nothing to seal.
func fillSealed(t *testing.T, target Target) (texts, keys map[string]string) {
	t.Helper()
	s, err := Open(t.Context(), target)
	require.NoError(t, err)
	texts, keys = map[string]string{}, map[string]string{"one": "key one", "two": "key two"}
	update(t, s, func(ctx context.Context, tx *Tx) error {
		for i := range 2*resealPage + 7 {
			token := accounts.Token{Hash: fmt.Sprintf("h%04d", i), AppID: "wxa", Kind: accounts.Stable, IssuedAt: at, ExpiresAt: at}
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
	eachCopy(t, func(t *testing.T, target Target) {
		texts, keys := fillSealed(t, target)
		s := openAlone(t, folder(t, target))
		// reseal puts a mark before every text, which all must have the mark of the last round; it ends at the text of this number.
		reseal := func(old, mark string, end int) (seen, seenKeys map[string]string, err error) {
			seen, seenKeys = map[string]string{}, map[string]string{}
			anew := func(into map[string]string) func(string, string) (string, error) {
				return func(name, text string) (string, error) {
					text, found := strings.CutPrefix(text, old)
					assert.True(t, found, "%s holds %q, want the mark %q", name, text, old)
					if into[name] = text; len(seen)+len(seenKeys) == end {
						return "", errCrash
					}
					return mark + text, nil
				}
			}
			n, err := s.Reseal(t.Context(), anew(seenKeys), anew(seen))
			assert.True(t, err != nil || n == len(texts), "sealed %d texts anew, want %d", n, len(texts))
			return seen, seenKeys, err
		}
		for _, end := range []int{1, len(texts) / 2, len(texts), len(texts) + 1, len(texts) + 2} {
			_, _, err := reseal("", "lost ", end)
			require.ErrorIs(t, err, errCrash, "cut off at %d", end)
		}
		for _, round := range [][2]string{{"", "2 "}, {"2 ", "3 "}} {
			seen, seenKeys, err := reseal(round[0], round[1], 0)
			require.NoError(t, err)
			want(t, "texts", seen, texts)
			want(t, "keys", seenKeys, keys)
		}
		assert.Equal(t, number(t, s, `SELECT COUNT(*) FROM access_tokens WHERE sealed = ''`), (2*resealPage+7+2)/3, "tokens without a text")
	})
}

// openAlone is OpenAlone where those who had the database have ended: on a busy machine PostgreSQL notices late.
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

// folder gives a database on a server a data folder too.
func folder(t *testing.T, target Target) Target {
	if target.Dir == "" {
		target.Dir = t.TempDir()
	}
	return target
}

// The old keys stand nowhere in the file any more, so that the old master key opens nothing of it. Other texts may, where pages were split
// long before; they were sealed by a key that is gone.
func TestReseal_OldKeysWipedFromFile(t *testing.T) {
	target := newEmbedded(t)
	fillSealed(t, target)
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
		require.True(t, strings.Contains(dump(), text), "%q is not found: this test finds nothing", text)
	}
	s, err := OpenAlone(t.Context(), target)
	require.NoError(t, err)
	n := 0
	anew := func(string, string) (string, error) {
		n++
		return fmt.Sprintf("%d, which is longer than what was there", n), nil
	}
	require.NoError(t, assert.ErrorOf(s.Reseal(t.Context(), anew, anew)))
	require.NoError(t, s.Close())
	for _, text := range old {
		assert.True(t, !strings.Contains(dump(), text), "%q stands in the file still", text)
	}
}

func TestOpenAlone_RejectsOtherProcesses(t *testing.T) {
	t.Parallel()
	eachCopy(t, func(t *testing.T, target Target) {
		target = folder(t, target)
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		if other, err := OpenAlone(t.Context(), target); err == nil {
			other.Close()
			t.Fatal("it opened beside another process")
		} else if !strings.Contains(err.Error(), "in use") {
			t.Error(err)
		}
		require.NoError(t, s.Close())
		openAlone(t, target)
		if other, err := OpenAlone(t.Context(), target); err == nil {
			other.Close()
			t.Fatal("two opened it alone")
		}
	})
}

// While the keys are sealed again, no process can open the store, and a process with the old keys cannot write afterwards.
func TestReseal_OldKeyProcessLockedOut(t *testing.T) {
	t.Parallel()
	target := folder(t, newPostgres(t))
	fillSealed(t, target)
	served, err := Open(t.Context(), target)
	require.NoError(t, err)
	defer served.Close()
	served.Fence("two", "key two")
	require.NoError(t, served.Ping(t.Context()))
	_, err = OpenAlone(t.Context(), Target{URL: target.URL, Dir: t.TempDir()})
	require.ErrorIs(t, err, ErrInUse, "beside a process that serves")
	// Its connections break, as when the network does.
	served.write.SetMaxIdleConns(0)
	one := openAlone(t, target)
	assert.NoErrorf(t, served.Ping(t.Context()), "before anything is sealed anew")
	reseal := func(name, old string) (string, error) {
		if late, err := Open(t.Context(), target); err == nil {
			late.Close()
			t.Error("a process started in between")
		} else if !strings.Contains(err.Error(), "being rotated") {
			t.Error(err)
		}
		return "new " + name, nil
	}
	turn := func(reseal func(name, old string) (string, error)) {
		t.Helper()
		err := ErrInUse
		for errors.Is(err, ErrInUse) { // PostgreSQL hears late of a connection's end
			_, err = one.Reseal(t.Context(), reseal, func(_, old string) (string, error) { return old, nil })
		}
		require.NoError(t, err)
	}
	turn(reseal) // the connection of that Ping ends before
	err = served.Ping(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "restart this process"), "a process with the old keys: %v", err)
	// The connection that was refused is gone: it keeps nobody from working alone.
	turn(func(name, _ string) (string, error) { return "newer " + name, nil })
	assert.NoErrorf(t, open(t, target).Ping(t.Context()), "a new process is locked out")
}
