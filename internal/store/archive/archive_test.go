package archive_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/store/archive"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const passphrase = "twelve chars"

// tables is a source: the rows of each table.
type tables map[string]string

func (s tables) Tables() []string {
	var names []string
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s tables) WriteRows(_ context.Context, table string, w io.Writer) (int64, error) {
	if s[table] == "broken" {
		return 0, errors.New("the disk is gone")
	}
	_, err := io.WriteString(w, s[table])
	return int64(strings.Count(s[table], "\n")), err
}

func contents(s tables) archive.Contents {
	return archive.Contents{Tables: s, Keys: map[string][]byte{"code": {1, 2, 3}, "data": {4}}, Schema: 7, Engine: "sqlite",
		Program:   "qrjump test",
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Passphrase: passphrase, Work: 4}
}

var some = tables{"accounts": `{"appid":"wx1"}` + "\n" + `{"appid":"wx2"}` + "\n", "empty": "",
	"rules": strings.Repeat(`{"id":1}`+"\n", 3000)}

func write(t *testing.T, c archive.Contents) []byte {
	t.Helper()
	p, err := archive.Pack(t.Context(), t.TempDir(), c)
	require.NoError(t, err)
	defer p.Close()
	var b bytes.Buffer
	n, err := p.WriteTo(&b)
	require.True(t, err == nil && n == int64(b.Len()), "%v, %d of %d bytes", err, n, b.Len())
	return b.Bytes()
}

func open(b []byte) (*archive.Archive, error) {
	a, err := archive.Open(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		err = a.Check()
	}
	return a, err
}

func TestArchive_RoundTrip(t *testing.T) {
	a, err := open(write(t, contents(some)))
	require.NoError(t, err)
	got := tables{}
	require.NoError(t, a.EachTable(func(name string, rows io.Reader) error {
		b, err := io.ReadAll(rows)
		got[name] = string(b)
		return err
	}))
	diff := cmp.Diff(some, got)
	assert.True(t, diff == "", "%v", diff)
	keys, err := a.Keys(passphrase)
	diff = cmp.Diff(contents(nil).Keys, keys)
	assert.True(t, err == nil && diff == "", "%v %v", err, diff)
	m := a.Manifest
	assert.True(t, m.Schema == 7 && m.Engine == "sqlite" && m.Rows() == 3002 && len(m.Tables()) == 3 &&
		m.CreatedAt.Equal(contents(nil).CreatedAt), "got %+v", m)
	for _, wrong := range []string{"", "Twelve chars", passphrase + " "} {
		assert.ErrorIs(t, assert.ErrorOf(a.Keys(wrong)), archive.ErrPassphrase, "with %q", wrong)
	}
}

func TestArchive_RejectsFlippedByte(t *testing.T) {
	whole := write(t, contents(tables{"accounts": `{"appid":"wx1"}` + "\n"}))
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= byte(1 + chance.IntN(255))
		_, err := open(b)
		require.True(t, errors.Is(err, archive.ErrDamaged) || errors.Is(err, archive.ErrNewer), "byte %d of %d: %v", i, len(whole), err)
	}
	for range 200 {
		at := chance.IntN(len(whole))
		for what, b := range map[string][]byte{
			"cut off":       whole[:at],
			"without one":   slices.Concat(whole[:at], whole[at+1:]),
			"with one more": slices.Concat(whole[:at], []byte{byte(chance.IntN(256))}, whole[at:]),
		} {
			if bytes.Equal(b, whole) {
				continue
			}
			require.ErrorIs(t, assert.ErrorOf(open(b)), archive.ErrDamaged, "%s at %d", what, at)
		}
	}
	_, err := open(append(bytes.Clone(whole), 0))
	assert.True(t, errors.Is(err, archive.ErrDamaged), "%v", err)
	_, err = open(nil)
	assert.True(t, errors.Is(err, archive.ErrDamaged), "%v", err)
}

func TestArchive_DeterministicExceptRandom(t *testing.T) {
	one, err := open(write(t, contents(some)))
	require.NoError(t, err)
	later := contents(some)
	later.CreatedAt = later.CreatedAt.Add(time.Hour)
	two, err := open(write(t, later))
	require.NoError(t, err)
	diff := cmp.Diff(one.Manifest.Tables(), two.Manifest.Tables())
	assert.True(t, diff == "", "%v", diff)
}

// A stranger without the passphrase can make new sums, but not for the sealed list.
func TestArchive_RejectsForgedTables(t *testing.T) {
	one, other := write(t, contents(some)), contents(tables{"accounts": `{"appid":"mine"}` + "\n"})
	a, err := open(one)
	require.NoError(t, err)
	b, err := open(write(t, other))
	require.NoError(t, err)
	archive.SwapKeys(a, b)
	_, err = b.Keys(passphrase)
	assert.True(t, errors.Is(err, archive.ErrDamaged), "%v", err)
}

func TestArchive_NewerFormat(t *testing.T) {
	b := archive.WithFormat(2, func() []byte { return write(t, contents(some)) })
	_, err := open(b)
	assert.True(t, errors.Is(err, archive.ErrNewer) && strings.Contains(err.Error(), "this qrjump supports up to 1"), "%v", err)
	// Even if later archives end in another way.
	_, err = open(b[:len(b)-3])
	assert.True(t, errors.Is(err, archive.ErrNewer), "%v", err)
}

func TestArchive_SourceErrorLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	assert.True(t, assert.ErrorOf(archive.Pack(t.Context(), dir, contents(tables{"accounts": "{}\n", "rules": "broken"}))) != nil,
		"it was packed")
	left, err := os.ReadDir(dir)
	assert.True(t, err == nil && len(left) == 0, "%v %v", err, left)
}

func TestArchive_PassphraseLength(t *testing.T) {
	for word, ok := range map[string]bool{"": false, "eleven char": false, passphrase: true, "十二个字才够长了吧真够了": true, "十二个字": false,
		"\xff\xfe123456789012": false} {
		err := archive.CheckPassphrase(word)
		assert.True(t, (err == nil) == ok, "%q: %v", word, err)
		c := contents(some)
		c.Passphrase = word
		p, err := archive.Pack(t.Context(), t.TempDir(), c)
		if err == nil {
			p.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%q: %v", word, err)
		} else if err != nil && word != "" && strings.Contains(err.Error(), word) {
			t.Errorf("the error quotes the passphrase: %v", err)
		}
	}
}

// The tools that everybody has read an archive as well.
func TestArchive_ReadableByTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("there is no tar")
	}
	file := filepath.Join(t.TempDir(), "a.tar.gz")
	require.NoError(t, os.WriteFile(file, write(t, contents(some)), 0o600))
	out, err := exec.Command("tar", "xzOf", file, "tables/accounts.ndjson").CombinedOutput()
	assert.True(t, err == nil && string(out) == some["accounts"], "%v %s", err, out)
}

// counted is a source that counts how often a table is read.
type counted struct {
	tables
	read map[string]int
}

func (s counted) WriteRows(ctx context.Context, table string, w io.Writer) (int64, error) {
	s.read[table]++
	return s.tables.WriteRows(ctx, table, w)
}

// Issue 14: an export read every row twice.
func TestArchive_TablesReadOnce(t *testing.T) {
	c, read := contents(nil), map[string]int{}
	c.Tables = counted{some, read}
	assert.NoError(t, assert.ErrorOf(open(write(t, c))))
	for _, table := range some.Tables() {
		assert.True(t, read[table] == 1, "%s was read %d times", table, read[table])
	}
}

// What is packed in pieces, at other times than it is written, is one gzip all the same.
func TestArchive_TableSizes(t *testing.T) {
	chance := rand.New(rand.NewPCG(14, 3))
	lines := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[chance.IntN(16)]
			if chance.IntN(50) == 0 || i == n-1 {
				b[i] = '\n'
			}
		}
		return string(b)
	}
	all := tables{}
	for i, n := range []int{0, 1, 511, 512, 513, archive.PieceSize - 1, archive.PieceSize, archive.PieceSize + 1, 3*archive.PieceSize + 7,
		9 * archive.PieceSize} {
		all[fmt.Sprintf("t%02d", i)] = lines(n)
	}
	b := write(t, contents(all))
	a, err := open(b)
	require.NoError(t, err)
	got := tables{}
	require.NoError(t, a.EachTable(func(name string, rows io.Reader) error {
		b, err := io.ReadAll(rows)
		got[name] = string(b)
		return err
	}))
	for name, want := range all {
		assert.True(t, got[name] == want, "%s: %d bytes became %d others", name, len(want), len(got[name]))
	}
	r, err := gzip.NewReader(bytes.NewReader(b)) // both of them, as everybody reads it
	require.NoError(t, err)
	assert.NoError(t, assert.ErrorOf(io.Copy(io.Discard, r)))
}

// full is a disk without room for what is packed.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(b), nil
}

// A disk that is full ends the reading of rows long before their end.
func TestArchive_DiskFullStopsReading(t *testing.T) {
	var read int
	err := archive.PackInto(&full{left: 100_000}, func(w io.Writer) error {
		chance := rand.NewChaCha8([32]byte{})
		b := make([]byte, 1000)
		for range 1_000_000 {
			chance.Read(b)
			if _, err := w.Write(b); err != nil {
				return err
			}
			read += len(b)
		}
		return nil
	})
	assert.True(t, err != nil && strings.Contains(err.Error(), "no space left") && read <= 100_000+5*archive.PieceSize,
		"%v after %d bytes", err, read)
}

// A table of a gigabyte needs no memory of its size.
func TestArchive_ConstantMemory(t *testing.T) {
	var big repeated = 200_000
	dir := t.TempDir()
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := contents(nil)
			c.Tables = big
			p, err := archive.Pack(b.Context(), dir, c)
			require.NoError(b, err)
			if _, err = p.WriteTo(io.Discard); errors.Join(err, p.Close()) != nil {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	assert.True(t, allocated <= 8<<20, "%d MiB for %d MiB of rows", allocated>>20, int(big)*len(aRow)>>20)
}

const aRow = `{"appid":"wxminiprogram0001","name":"a name that is long enough to count for something in the end","at":1234567890123}` + "\n"

type repeated int

func (repeated) Tables() []string { return []string{"rules"} }

func (n repeated) WriteRows(_ context.Context, _ string, w io.Writer) (int64, error) {
	row := []byte(aRow)
	for range n {
		if _, err := w.Write(row); err != nil {
			return 0, err
		}
	}
	return int64(n), nil
}

func Example() {
	p, err := archive.Pack(context.Background(), os.TempDir(), contents(tables{"rules": `{"id":1}` + "\n"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	var file bytes.Buffer
	if _, err := p.WriteTo(&file); err != nil {
		fmt.Println(err)
		return
	}
	a, err := archive.Open(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range a.Manifest.Members {
		fmt.Println(m.Name, m.Rows)
	}
	// Output:
	// keys.age 0
	// tables/rules.ndjson 1
}
