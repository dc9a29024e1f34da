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
	maxBytesPerByte = 1200
	baseBytes       = 4 << 20
	jitterBytes     = 2 << 20 // allowed difference between two runs of a command
)

// repeatText returns a function that returns prefix, then numbered pieces up to about size bytes, then suffix.
func repeatText(prefix, piece, suffix string) func(size int) string {
	return func(size int) string {
		var b strings.Builder
		b.WriteString(prefix)
		for i := 0; b.Len() < size; i++ {
			if strings.Contains(piece, "%") {
				fmt.Fprintf(&b, piece, i)
			} else {
				b.WriteString(piece)
			}
		}
		return b.String() + suffix
	}
}

// nestedMaps returns YAML whose maps are nested as deeply as size allows.
func nestedMaps(size int) string {
	var b strings.Builder
	for depth := 0; b.Len() < size; depth++ {
		b.WriteString(strings.Repeat(" ", depth) + "k:\n")
	}
	return b.String()
}

// readCommands has, by kind of file, a command that reads $FILE.
var readCommands = map[string]string{
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

// directReaders read the kinds of file for which no command only reads.
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
		text := require.Value(os.ReadFile(name))(t)
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

// hostileFile is a kind of file with a text that is expensive to read.
type hostileFile struct {
	kind, name string
	text       func(size int) string
}

// archiveOf returns an archive of size bytes with a manifest of 700 times that size: repetitions of piece.
func archiveOf(size int, piece string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	to := tar.NewWriter(z)
	text := `{"format":1,"members":[` + strings.Repeat(piece, size*700/len(piece)) + "]}"
	if err := to.WriteHeader(&tar.Header{Name: "manifest.json", Mode: 0o600, Size: int64(len(text))}); err != nil {
		panic(err)
	}
	io.WriteString(to, text)
	to.Close()
	z.Close()
	return b.String() + strings.Repeat("x", max(0, size-b.Len()))
}

// largePicture returns a PNG of few bytes with more pixels than the limit, below which the cost of a picture has a fixed maximum.
func largePicture(size int) string {
	var b bytes.Buffer
	m := image.NewPaletted(image.Rect(0, 0, 4096, max(4096, size/4)), color.Palette{color.Black})
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}

// TestFileParsing_LinearCost reads hostile files of every kind and verifies that the allocated bytes are at most linear in the file size.
func TestFileParsing_LinearCost(t *testing.T) { // not parallel: it counts all allocations of the process
	s := servertest.Start(t, servertest.Options{Seed: "accounts:\n" +
		"  - {appid: shop, kind: mini_program, secret: the-secret-of-both, certified: true}\n" +
		"  - {appid: brand, kind: service_account, secret: the-secret-of-both, certified: true}\n"})
	setEnvironment(t, map[string]string{"SERVER": s.URL, "ADMIN_TOKEN": servertest.AdminToken})
	dir := t.TempDir()
	vars := map[string]string{"FILE": filepath.Join(dir, "file"), "OUT": filepath.Join(dir, "out.png"), "DATA": filepath.Join(dir, "data"),
		"SIGNER": filepath.Join(dir, "signer"), "WORD": filepath.Join(dir, "word")}
	const signer = "qrjump ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqCPBvdhBbhcwVYWN8IH1yKSE5tnQs8qG4cWRD2u0WI\n"
	for name, text := range map[string]string{"SIGNER": signer, "WORD": "a long passphrase\n"} {
		require.NoError(t, os.WriteFile(vars[name], []byte(text), 0o600))
	}
	cost := func(kind, text string) (allocated int, output string) {
		require.NoError(t, os.WriteFile(vars["FILE"], []byte(text), 0o600))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if read := directReaders[kind]; read != nil {
			read(t, vars["FILE"])
		} else {
			require.True(t, readCommands[kind] != "", "no command reads the kind %s", kind)
			_, out, errs := runVerb(t, verbCase{words: readCommands[kind]}, vars)
			output = out + errs
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc), output
	}
	list := []hostileFile{{"plan", "deeper lines", nestedMaps},
		{"plan", "one name of one", func(size int) string { return "rules:\n  - " + strings.Repeat("x", size) + ": 1\n" }},
		{"archive", "a manifest of spaces", func(size int) string { return archiveOf(size, " ") }},
		{"archive", "a manifest of members", func(size int) string { return archiveOf(size, `{},`) }},
		{"picture", "many dots", largePicture}}
	for _, row := range testtable.Rows(t, "testdata/shapes.txt", 5) {
		require.True(t, row[3] != "", "%s, %s: the repeated piece is empty", row[0], row[1])
		for _, kind := range testtable.List(row[0]) {
			list = append(list, hostileFile{kind, row[1], repeatText(row[2], row[3], row[4])})
		}
	}
	for _, s := range list {
		// A quadratic cost is visible at a quarter of the size as well.
		small, large := s.text(testscope.Select(16<<10, 4<<10)), s.text(testscope.Select(64<<10, 16<<10))
		first, output := cost(s.kind, small)
		t.Logf("%s, %s: %d bytes cost %d KiB: %.120s", s.kind, s.name, len(small), first>>10, strings.TrimSpace(output))
		if limit := baseBytes + maxBytesPerByte*len(small); first > limit {
			t.Errorf("%s, %s: %d bytes cost %d MiB, want at most %d: %.200s", s.kind, s.name, len(small), first>>20, limit>>20, output)
			continue
		}
		if second, _ := cost(s.kind, large); second-first > jitterBytes+maxBytesPerByte*(len(large)-len(small)) {
			t.Errorf("%s, %s: %d bytes cost %d MiB, %d cost %d, want linear growth", s.kind, s.name,
				len(small), first>>20, len(large), second>>20)
		}
	}
}
