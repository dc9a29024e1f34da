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

// source is an archive.Source with the rows by table. The rows "broken" cause an error.
type source map[string]string

func (s source) Tables() []string {
	var names []string
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s source) WriteRows(_ context.Context, table string, w io.Writer) (int64, error) {
	if s[table] == "broken" {
		return 0, errors.New("the disk is gone")
	}
	_, err := io.WriteString(w, s[table])
	return int64(strings.Count(s[table], "\n")), err
}

func newContents(s source) archive.Contents {
	return archive.Contents{Tables: s, Keys: map[string][]byte{"code": {1, 2, 3}, "data": {4}}, Schema: 7, Engine: "sqlite",
		Program:   "qrjump test",
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Passphrase: passphrase, Work: 4}
}

var testSource = source{"accounts": `{"appid":"wx1"}` + "\n" + `{"appid":"wx2"}` + "\n", "empty": "",
	"rules": strings.Repeat(`{"id":1}`+"\n", 3000)}

func packBytes(t *testing.T, c archive.Contents) []byte {
	t.Helper()
	p := require.Value(archive.Pack(t.Context(), t.TempDir(), c))(t)
	defer p.Close()
	var b bytes.Buffer
	n, err := p.WriteTo(&b)
	require.True(t, err == nil && n == int64(b.Len()), "%v, %d of %d bytes", err, n, b.Len())
	return b.Bytes()
}

func openBytes(b []byte) (*archive.Archive, error) {
	a, err := archive.Open(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		err = a.Check()
	}
	return a, err
}

func readTables(t *testing.T, a *archive.Archive) source {
	t.Helper()
	got := source{}
	require.NoError(t, a.EachTable(func(name string, rows io.Reader) error {
		b, err := io.ReadAll(rows)
		got[name] = string(b)
		return err
	}))
	return got
}

func TestArchive_RoundTrip(t *testing.T) {
	a := require.Value(openBytes(packBytes(t, newContents(testSource))))(t)
	diff := cmp.Diff(testSource, readTables(t, a))
	assert.Equal(t, diff, "", "tables (-want +got)")
	keys, err := a.Keys(passphrase)
	diff = cmp.Diff(newContents(nil).Keys, keys)
	assert.True(t, err == nil && diff == "", "Keys(): error %v, difference (-want +got) %s", err, diff)
	m := a.Manifest
	assert.True(t, m.Schema == 7 && m.Engine == "sqlite" && m.Rows() == 3002 && len(m.Tables()) == 3 &&
		m.CreatedAt.Equal(newContents(nil).CreatedAt), "manifest = %+v", m)
	for _, wrong := range []string{"", "Twelve chars", passphrase + " "} {
		assert.ErrorIs(t, assert.ErrorOf(a.Keys(wrong)), archive.ErrPassphrase, "Keys(%q)", wrong)
	}
}

func TestArchive_RejectsFlippedByte(t *testing.T) {
	valid := packBytes(t, newContents(source{"accounts": `{"appid":"wx1"}` + "\n"}))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range valid {
		b := bytes.Clone(valid)
		b[i] ^= byte(1 + random.IntN(255))
		_, err := openBytes(b)
		require.True(t, errors.Is(err, archive.ErrDamaged) || errors.Is(err, archive.ErrNewer),
			"Open() after a change of byte %d of %d = %v, want damaged or newer", i, len(valid), err)
	}
	for range 200 {
		i := random.IntN(len(valid))
		for name, b := range map[string][]byte{
			"truncated at":       valid[:i],
			"without the byte":   slices.Concat(valid[:i], valid[i+1:]),
			"with a byte before": slices.Concat(valid[:i], []byte{byte(random.IntN(256))}, valid[i:]),
		} {
			if bytes.Equal(b, valid) {
				continue
			}
			require.ErrorIs(t, assert.ErrorOf(openBytes(b)), archive.ErrDamaged, "an archive %s %d", name, i)
		}
	}
	assert.ErrorIs(t, assert.ErrorOf(openBytes(append(bytes.Clone(valid), 0))), archive.ErrDamaged, "an archive with a trailing byte")
	assert.ErrorIs(t, assert.ErrorOf(openBytes(nil)), archive.ErrDamaged, "an empty archive")
}

func TestArchive_DeterministicExceptRandom(t *testing.T) {
	first := require.Value(openBytes(packBytes(t, newContents(testSource))))(t)
	later := newContents(testSource)
	later.CreatedAt = later.CreatedAt.Add(time.Hour)
	second := require.Value(openBytes(packBytes(t, later)))(t)
	assert.Equal(t, cmp.Diff(first.Manifest.Tables(), second.Manifest.Tables()), "", "tables (-first +second)")
}

// TestArchive_RejectsForgedTables combines the sealed keys of an archive with other tables. Without the passphrase the checksums of the
// tables can be computed, but not sealed.
func TestArchive_RejectsForgedTables(t *testing.T) {
	a := require.Value(openBytes(packBytes(t, newContents(testSource))))(t)
	b := require.Value(openBytes(packBytes(t, newContents(source{"accounts": `{"appid":"mine"}` + "\n"}))))(t)
	archive.SwapKeys(a, b)
	assert.ErrorIs(t, assert.ErrorOf(b.Keys(passphrase)), archive.ErrDamaged, "Keys of another archive")
	a.Manifest.Accounts = []string{"wx1"}
	assert.ErrorIs(t, assert.ErrorOf(a.Keys(passphrase)), archive.ErrDamaged, "Keys of an archive of everything, as one of accounts")
	c := newContents(testSource)
	c.Accounts = []string{"wx1"}
	a = require.Value(openBytes(packBytes(t, c)))(t)
	assert.NoErrorf(t, assert.ErrorOf(a.Keys(passphrase)), "Keys of an archive of accounts")
	a.Manifest.Accounts = nil
	assert.ErrorIs(t, assert.ErrorOf(a.Keys(passphrase)), archive.ErrDamaged, "Keys of an archive of accounts, as one of everything")
}

func TestArchive_NewerFormat(t *testing.T) {
	b := archive.WithFormat(2, func() []byte { return packBytes(t, newContents(testSource)) })
	_, err := openBytes(b)
	assert.True(t, errors.Is(err, archive.ErrNewer) && strings.Contains(err.Error(), "this qrjump supports up to 1"),
		"Open() = %v, want newer", err)
	// Also if the trailer of a newer format differs.
	assert.ErrorIs(t, assert.ErrorOf(openBytes(b[:len(b)-3])), archive.ErrNewer, "a newer archive with another trailer")
}

func TestArchive_SourceErrorLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	assert.True(t, assert.ErrorOf(archive.Pack(t.Context(), dir, newContents(source{"accounts": "{}\n", "rules": "broken"}))) != nil,
		"Pack() of a source that fails = nil, want an error")
	files, err := os.ReadDir(dir)
	assert.True(t, err == nil && len(files) == 0, "files after a failed Pack() = %v, %v, want none", files, err)
}

func TestArchive_PassphraseLength(t *testing.T) {
	for word, ok := range map[string]bool{"": false, "eleven char": false, passphrase: true, "十二个字才够长了吧真够了": true, "十二个字": false,
		"\xff\xfe123456789012": false} {
		err := archive.CheckPassphrase(word)
		assert.True(t, (err == nil) == ok, "CheckPassphrase(%q) = %v, want success: %v", word, err, ok)
		c := newContents(testSource)
		c.Passphrase = word
		p, err := archive.Pack(t.Context(), t.TempDir(), c)
		if err == nil {
			p.Close()
		}
		assert.True(t, (err == nil) == ok, "Pack() with the passphrase %q = %v, want success: %v", word, err, ok)
		assert.True(t, err == nil || word == "" || !strings.Contains(err.Error(), word), "Pack() = %v, which has the passphrase", err)
	}
}

// TestArchive_ReadableByTar extracts a table with tar.
func TestArchive_ReadableByTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("there is no tar")
	}
	file := filepath.Join(t.TempDir(), "a.tar.gz")
	require.NoError(t, os.WriteFile(file, packBytes(t, newContents(testSource)), 0o600))
	out, err := exec.Command("tar", "xzOf", file, "tables/accounts.ndjson").CombinedOutput()
	assert.True(t, err == nil && string(out) == testSource["accounts"], "output of tar = %s, %v, want %s", out, err, testSource["accounts"])
}

// countingSource counts how often each table is read.
type countingSource struct {
	source
	read map[string]int
}

func (s countingSource) WriteRows(ctx context.Context, table string, w io.Writer) (int64, error) {
	s.read[table]++
	return s.source.WriteRows(ctx, table, w)
}

// TestArchive_TablesReadOnce verifies that Pack reads each table once.
func TestArchive_TablesReadOnce(t *testing.T) {
	c, read := newContents(nil), map[string]int{}
	c.Tables = countingSource{testSource, read}
	assert.NoError(t, assert.ErrorOf(openBytes(packBytes(t, c))))
	for _, table := range testSource.Tables() {
		assert.Equal(t, read[table], 1, "reads of table %s", table)
	}
}

// TestArchive_TableSizes packs tables with sizes around those of tar blocks and pieces. The archive is a valid gzip file, although its
// pieces are compressed separately.
func TestArchive_TableSizes(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 3))
	lines := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[random.IntN(16)]
			if random.IntN(50) == 0 || i == n-1 {
				b[i] = '\n'
			}
		}
		return string(b)
	}
	all := source{}
	for i, n := range []int{0, 1, 511, 512, 513, archive.PieceSize - 1, archive.PieceSize, archive.PieceSize + 1, 3*archive.PieceSize + 7,
		9 * archive.PieceSize} {
		all[fmt.Sprintf("t%02d", i)] = lines(n)
	}
	b := packBytes(t, newContents(all))
	a := require.Value(openBytes(b))(t)
	got := readTables(t, a)
	for name, want := range all {
		assert.True(t, got[name] == want, "table %s has %d bytes, want %d, or they differ", name, len(got[name]), len(want))
	}
	r := require.Value(gzip.NewReader(bytes.NewReader(b)))(t)
	assert.NoError(t, assert.ErrorOf(io.Copy(io.Discard, r)))
}

// limitedWriter fails after a number of bytes, as a full disk does.
type limitedWriter struct{ remaining int }

func (w *limitedWriter) Write(b []byte) (int, error) {
	if w.remaining -= len(b); w.remaining < 0 {
		return 0, errors.New("no space left")
	}
	return len(b), nil
}

// TestArchive_DiskFullStopsReading verifies that a failed write ends the reading of rows.
func TestArchive_DiskFullStopsReading(t *testing.T) {
	var read int
	err := archive.PackInto(&limitedWriter{remaining: 100_000}, func(w io.Writer) error {
		random := rand.NewChaCha8([32]byte{})
		b := make([]byte, 1000)
		for range 1_000_000 {
			random.Read(b)
			if _, err := w.Write(b); err != nil {
				return err
			}
			read += len(b)
		}
		return nil
	})
	assert.True(t, err != nil && strings.Contains(err.Error(), "no space left") && read <= 100_000+5*archive.PieceSize,
		"PackInto() = %v after %d bytes are read, want no space left", err, read)
}

// TestArchive_ConstantMemory verifies that the memory that Pack allocates does not depend on the size of a table.
func TestArchive_ConstantMemory(t *testing.T) {
	var big repeatedRows = 200_000
	dir := t.TempDir()
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := newContents(nil)
			c.Tables = big
			p, err := archive.Pack(b.Context(), dir, c)
			require.NoError(b, err)
			if _, err = p.WriteTo(io.Discard); errors.Join(err, p.Close()) != nil {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	assert.True(t, allocated <= 8<<20,
		"Pack() allocates %d MiB for %d MiB of rows, want at most 8", allocated>>20, int(big)*len(longRow)>>20)
}

const longRow = `{"appid":"wxminiprogram0001","name":"a name that is long enough to count for something in the end","at":1234567890123}` + "\n"

type repeatedRows int

func (repeatedRows) Tables() []string { return []string{"rules"} }

func (n repeatedRows) WriteRows(_ context.Context, _ string, w io.Writer) (int64, error) {
	row := []byte(longRow)
	for range n {
		if _, err := w.Write(row); err != nil {
			return 0, err
		}
	}
	return int64(n), nil
}

func Example() {
	p, err := archive.Pack(context.Background(), os.TempDir(), newContents(source{"rules": `{"id":1}` + "\n"}))
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
