package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// Limits on the bytes that a command allocates for each byte of an untrusted file, and for any such file.
const (
	perByte    = 1200
	whatever   = 4 << 20
	betweenTwo = 2 << 20 // how far two runs of one command may be apart
)

// repeated is a text of about a size, of pieces that have a number.
func repeated(before, piece, after string) func(int) string {
	return func(size int) string {
		var b strings.Builder
		b.WriteString(before)
		for i := 0; b.Len() < size; i++ {
			if strings.Contains(piece, "%") {
				fmt.Fprintf(&b, piece, i)
			} else {
				b.WriteString(piece)
			}
		}
		return b.String() + after
	}
}

// staircase is a map in a map in a map.
func staircase(size int) string {
	var b strings.Builder
	for depth := 0; b.Len() < size; depth++ {
		b.WriteString(strings.Repeat(" ", depth) + "k:\n")
	}
	return b.String()
}

// readers are the commands that read a kind of file; $FILE is the file.
var readers = map[string]string{
	"lint":                 "rule lint $FILE",
	"faults":               "fault add --from-file $FILE",
	"seed":                 "seed $FILE",
	"lines of rules":       "rule import $FILE --dry-run",
	"lines of accounts":    "account import $FILE --dry-run",
	"codes made elsewhere": "batch import $FILE --account brand --isv a",
	"serials":              "batch serials 1 $FILE",
	"codes":                "code freeze 1 --codes-file $FILE --yes",
	"file for the line":    "package check $FILE -",
	"package":              "package verify $FILE --signer $SIGNER --passphrase-file $WORD",
	"archive":              "import $FILE --data $DATA --passphrase-file $WORD",
	"font":                 "symbol a --line b --font $FILE --out $OUT",
	"picture":              "account appearance shop --logo $FILE",
}

// directReaders read the kinds of file that have no command for reading alone.
var directReaders = map[string]func(t *testing.T, name string){
	"cassette": func(t *testing.T, name string) {
		lines, err := cassette.ReadFile(name)
		if err != nil {
			return
		}
		cassette.NewStage(lines).Seed()
		cassette.NewPlayer(lines, true)
	},
	"plan": func(t *testing.T, name string) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		wanted, _, err := ruleplan.ReadToApply(name, text, "shop", "")
		if err != nil {
			return
		}
		ruleplan.Decide(wanted, nil, true)
		set := make([]rules.Rule, len(wanted))
		for i, w := range wanted {
			set[i] = rules.Rule{Owner: "shop", Prefix: w.Parsed, Published: true}
		}
		rules.Lint(set)
	},
}

// shape is a file of a kind that is hard for its reader.
type shape struct {
	kind, name string
	text       func(size int) string
}

// packed is an archive whose manifest is a thousand times as long as the file.
func packed(size int, of string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	to := tar.NewWriter(z)
	text := `{"format":1,"members":[` + strings.Repeat(of, size*700/len(of)) + "]}"
	if err := to.WriteHeader(&tar.Header{Name: "manifest.json", Mode: 0o600, Size: int64(len(text))}); err != nil {
		panic(err)
	}
	io.WriteString(to, text)
	to.Close()
	z.Close()
	return b.String() + strings.Repeat("x", max(0, size-b.Len()))
}

// picture is a PNG of few bytes and of more dots than are read: up to there a picture costs what a fixed ceiling says.
func picture(size int) string {
	var b bytes.Buffer
	m := image.NewPaletted(image.Rect(0, 0, 4096, max(4096, size/4)), color.Palette{color.Black})
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}

// Issue 28: whatever a file of somebody else says, reading it costs what it is long.
func TestFileParsing_LinearCost(t *testing.T) { // not parallel: it counts what the process allocates
	s := servertest.Start(t, servertest.Options{Seed: "accounts:\n" +
		"  - {appid: shop, kind: mini_program, secret: the-secret-of-both, certified: true}\n" +
		"  - {appid: brand, kind: service_account, secret: the-secret-of-both, certified: true}\n"})
	environment(t, map[string]string{"SERVER": s.URL, "ADMIN_TOKEN": servertest.AdminToken})
	dir := t.TempDir()
	found := map[string]string{"FILE": filepath.Join(dir, "file"), "OUT": filepath.Join(dir, "out.png"), "DATA": filepath.Join(dir, "data"),
		"SIGNER": filepath.Join(dir, "signer"), "WORD": filepath.Join(dir, "word")}
	const signer = "qrjump ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqCPBvdhBbhcwVYWN8IH1yKSE5tnQs8qG4cWRD2u0WI\n"
	for name, text := range map[string]string{"SIGNER": signer, "WORD": "a long passphrase\n"} {
		require.NoError(t, os.WriteFile(found[name], []byte(text), 0o600))
	}
	cost := func(kind, text string) (price int, tr string) {
		require.NoError(t, os.WriteFile(found["FILE"], []byte(text), 0o600))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if read := directReaders[kind]; read != nil {
			read(t, found["FILE"])
		} else {
			require.True(t, readers[kind] != "", "nothing reads a %s", kind)
			_, out, errs := play(t, verb{words: readers[kind]}, found)
			tr = out + errs
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc), tr
	}
	list := []shape{{"plan", "deeper lines", staircase},
		{"plan", "one name of one", func(size int) string { return "rules:\n  - " + strings.Repeat("x", size) + ": 1\n" }},
		{"archive", "a manifest of spaces", func(size int) string { return packed(size, " ") }},
		{"archive", "a manifest of members", func(size int) string { return packed(size, `{},`) }},
		{"picture", "many dots", picture}}
	for _, row := range testtable.Rows(t, "testdata/shapes.txt", 5) {
		require.True(t, row[3] != "", "%s, %s: nothing is repeated", row[0], row[1])
		for _, kind := range testtable.List(row[0]) {
			list = append(list, shape{kind, row[1], repeated(row[2], row[3], row[4])})
		}
	}
	for _, s := range list {
		// A cost that grows with the square of the length shows at a quarter of it as well.
		small, large := s.text(testscope.Choose(16<<10, 4<<10)), s.text(testscope.Choose(64<<10, 16<<10))
		first, tr := cost(s.kind, small)
		t.Logf("%s, %s: %d bytes cost %d KiB: %.120s", s.kind, s.name, len(small), first>>10, strings.TrimSpace(tr))
		if first > whatever+perByte*len(small) {
			t.Errorf("%s, %s: %d bytes cost %d MiB: %.200s", s.kind, s.name, len(small), first>>20, tr)
			continue
		}
		if second, _ := cost(s.kind, large); second-first > betweenTwo+perByte*(len(large)-len(small)) {
			t.Errorf("%s, %s: %d bytes cost %d MiB, and %d cost %d", s.kind, s.name, len(small), first>>20, len(large), second>>20)
		}
	}
}
