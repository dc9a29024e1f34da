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
	"maps"
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
)

// Limits on the bytes that a command allocates for each byte of an untrusted file, and for any such file.
const (
	perByte    = 1200
	whatever   = 4 << 20
	betweenTwo = 2 << 20 // how far two runs of one command may be apart
)

// shared is a kind of file that people hand to each other.
type shared struct {
	reads  string // the command line; $FILE is the file
	direct func(t *testing.T, name string)
	shapes map[string]func(size int) string
}

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

// yamlShapes are hard for readers of YAML, whatever they want.
func yamlShapes(with map[string]func(int) string) map[string]func(int) string {
	maps.Copy(with, map[string]func(int) string{
		"keys":            repeated("", "k%d: 1\n", ""),
		"keys of nothing": repeated("", "k%d:\n", ""),
		"the same key":    repeated("", "rules: []\n", ""),
		"keys in a list":  repeated("rules:\n  - a: b\n", "    k%d: 1\n", ""),
		"flow keys":       repeated("{", "k%d: 1, ", "}"),
		"documents":       repeated("", "---\na\n", ""),
		"ends":            repeated("", "a\n...\n", ""),
		"depth":           repeated("", "[", ""),
		"deeper lines":    func(size int) string { return staircase(size) },
		"aliases":         repeated("a: &a [b]\nrules:\n", "  - *a\n", ""),
		"anchors":         repeated("rules:\n", "  - &a%d b\n", ""),
		"comments":        repeated("rules:\n", "  # comment\n", "  - a\n"),
		"a long text":     repeated("rules: ", "x", "\n"),
		"a long quote":    repeated("rules: \"", "\\n", "\"\n"),
		"a block text":    repeated("rules: |\n", "  x\n", ""),
		"an open quote":   repeated("rules: \"", "x", ""),
		"merges":          repeated("rules:\n", "  - {<<: {a: b}}\n", ""),
		"one name of one": func(size int) string { return "rules:\n  - " + strings.Repeat("x", size) + ": 1\n" },
	})
	return with
}

// someYAML are those of yamlShapes that a reader pays dearly for who does not look first.
func someYAML(with map[string]func(int) string) map[string]func(int) string {
	all := yamlShapes(map[string]func(int) string{})
	for _, name := range []string{"keys", "documents", "aliases", "depth"} {
		with[name] = all[name]
	}
	return with
}

// staircase is a map in a map in a map.
func staircase(size int) string {
	var b strings.Builder
	for depth := 0; b.Len() < size; depth++ {
		b.WriteString(strings.Repeat(" ", depth) + "k:\n")
	}
	return b.String()
}

const callLine = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/wxopen/qrcodejumpadd",` +
	`"query":{"access_token":"{token:1:130}"},"status":200,%s}` + "\n"

// called is a line of a cassette.
func called(more string) string { return fmt.Sprintf(callLine, more) }

var sharedFiles = map[string]shared{
	"cassette": {direct: func(t *testing.T, name string) {
		lines, err := cassette.ReadFile(name)
		if err != nil {
			return
		}
		cassette.NewStage(lines).Seed()
		cassette.NewPlayer(lines, true)
	}, shapes: map[string]func(int) string{
		"long stand-ins": repeated("",
			called(`"request":{"a":"{text:1%[1]d:9999999}","b":"{#number:2%[1]d:999999}","c":"{wide:3%[1]d:99999}"}`), ""),
		"one of them": repeated(called(`"request":{"a":"{text:1:99999999}"},"response":{"x":"{buffer:2:99999999}"}`), "\n", ""),
		"long bodies": repeated("", called(`"request":"{html:1%[1]d:33554432}","response":"{bytes:2%[1]d:33554432}"`), ""),
		"in one text": repeated(`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/`, "{text:1%d:999999}", `","status":200}`+"\n"),
		"names":       repeated(`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/a","status":200,"response":{`, `"n%d":1,`, `"z":1}}`+"\n"),
		"the same name": repeated(`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/a","status":200,"response":{`, `"errcode":0,`,
			`"z":1}}`+"\n"),
		"depth": repeated(`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/a","status":200,"response":`, "[", ""),
		"links": repeated("", called(`"request":{"appid":"{appid:1%d:18}","prefix":"a"},"response":{"errcode":0}`), ""),
		"platforms": repeated("", `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/component/api_get_authorizer_list",`+
			`"request":{"component_appid":"{appid:1%d:18}"},"status":200,`+
			`"response":{"total_count":1,"list":[{"authorizer_appid":"{appid:1:18}"}]}}`+"\n", ""),
		"a total": repeated(`{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/component/api_get_authorizer_list",`+
			`"request":{"component_appid":"{appid:1:18}"},"status":200,"response":{"total_count":999999999,"list":[]}}`+"\n", "\n", ""),
		"no line feed": repeated(`{"occurred_at":"`, "0", ""),
	}},
	"plan": {direct: func(t *testing.T, name string) {
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
	}, shapes: yamlShapes(map[string]func(int) string{
		"rules":      repeated("rules:\n", "  - {prefix: \"https://tea.example/%d/\", path: p}\n", ""),
		"lines":      repeated("", `{"prefix":"https://tea.example/%d/","path":"p"}`+"\n", ""),
		"bad lines":  repeated(`{"prefix":"a"}`+"\n", `{"prefix":"%d","k":1}`+"\n", ""),
		"test links": repeated("rules:\n  - {prefix: \"https://tea.example/\", path: p, test_links: [", "\"https://tea.example/%d\", ", "]}\n"),
		"the same":   repeated("rules:\n", "  - {prefix: \"https://tea.example/\", path: p}\n", ""),
		"as JSON":    repeated(`{"rules":[`, `{"prefix":"https://tea.example/%d/","path":"p"},`, `{"prefix":"a","path":"p"}]}`),
	})},
	"lint": {reads: "rule lint $FILE", shapes: someYAML(map[string]func(int) string{
		"rules": repeated("rules:\n", "  - {prefix: \"https://tea.example/%d\", path: p, published: true}\n", ""),
	})},
	"faults": {reads: "fault add --from-file $FILE", shapes: someYAML(map[string]func(int) string{
		"bodies": repeated("faults:\n  - {path: /a, response: {body: {", "k%d: 1, ", "}}}\n"),
	})},
	"seed": {reads: "seed $FILE", shapes: someYAML(map[string]func(int) string{
		"accounts": repeated("accounts:\n", "  - {appid: a%d, kind: mini_program, secret: a-secret-of-sixteen}\n", ""),
		"links":    repeated("accounts:\n  - {appid: a, kind: service_account, secret: a-secret-of-sixteen, linked: [", "a%d, ", "]}\n"),
		"members":  repeated("accounts:\n  - {appid: a, kind: mini_program, secret: a-secret-of-sixteen, members: {", "a%d: trial, ", "}}\n"),
	})},
	"lines of rules": {reads: "rule import $FILE --dry-run", shapes: map[string]func(int) string{
		"one line": repeated(`{"owner":"`, "x", `"}`),
		"wrong":    repeated("", "{}\n", ""),
		"depth":    repeated("", `[[[[[[[[[[[[[[[[`, ""),
	}},
	"lines of accounts": {reads: "account import $FILE --dry-run", shapes: map[string]func(int) string{
		"one line": repeated(`{"appid":"`, "x", `"}`),
		"linked":   repeated(`{"appid":"a","kind":"service_account","linked":[`, `"a%d",`, `"a"]}`),
	}},
	"codes made elsewhere": {reads: "batch import $FILE --account brand --isv a", shapes: map[string]func(int) string{
		"one line": repeated("", "0", ""),
		"spaces":   repeated("", " ", ""),
	}},
	"serials": {reads: "batch serials 1 $FILE", shapes: map[string]func(int) string{
		"columns": repeated("index,serial", ",c%d", "\n"),
		"a quote": repeated("index,serial\n\"", "\"\"", ""),
	}},
	"codes": {reads: "code freeze 1 --codes-file $FILE --yes", shapes: map[string]func(int) string{"one line": repeated("", "x", "")}},
	"file for the line": {reads: "package check $FILE -", shapes: map[string]func(int) string{
		"a count": repeated(`{"format":"qrjump-line/1","package":1,"from":0,"to":99999999,"prefix":"P","salt":"00"}`+"\n",
			"0123456789abcdef", ""),
		"a salt": repeated(`{"format":"qrjump-line/1","package":1,"from":0,"to":0,"prefix":"P","salt":"`, "00", `"}`+"\n"),
	}},
	"package": {reads: "package verify $FILE --signer $SIGNER --passphrase-file $WORD", shapes: map[string]func(int) string{
		"stanzas": repeated("age-encryption.org/v1\n", "-> X25519 "+sealedKey+sealedKey, "--- "+sealedKey),
		"work":    repeated("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 19\n"+sealedKey+"--- "+sealedKey, "x", ""),
	}},
	"archive": {reads: "import $FILE --data $DATA --passphrase-file $WORD", shapes: map[string]func(int) string{
		"a manifest of spaces":  func(size int) string { return packed(size, " ") },
		"a manifest of members": func(size int) string { return packed(size, `{},`) },
		"no gzip":               repeated("", "x", ""),
	}},
	"font": {reads: "symbol a --line b --font $FILE --out $OUT", shapes: map[string]func(int) string{
		"tables": repeated("\x00\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00", "cmap\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", ""),
		"fonts":  repeated("ttcf\x00\x01\x00\x00\x7f\xff\xff\xff", "\x00\x00\x00\x0c", ""),
	}},
	"picture": {reads: "account appearance shop --logo $FILE", shapes: map[string]func(int) string{"many dots": picture}},
}

// sealedKey is 32 bytes as the head of a file of age has them.
var sealedKey = strings.Repeat("A", 43) + "\n"

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
	cost := func(one shared, text string) (price int, tr string) {
		require.NoError(t, os.WriteFile(found["FILE"], []byte(text), 0o600))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if one.direct != nil {
			one.direct(t, found["FILE"])
		} else {
			_, out, errs := play(t, verb{words: one.reads}, found)
			tr = out + errs
		}
		runtime.ReadMemStats(&after)
		return int(after.TotalAlloc - before.TotalAlloc), tr
	}
	for kind, one := range sharedFiles {
		for name, shape := range one.shapes {
			// A cost that grows with the square of the length shows at a quarter of it as well.
			small, large := shape(testscope.Choose(16<<10, 4<<10)), shape(testscope.Choose(64<<10, 16<<10))
			first, tr := cost(one, small)
			if testing.Verbose() {
				t.Logf("%s, %s: %d bytes cost %d KiB: %.120s", kind, name, len(small), first>>10, strings.TrimSpace(tr))
			}
			if first > whatever+perByte*len(small) {
				t.Errorf("%s, %s: %d bytes cost %d MiB: %.200s", kind, name, len(small), first>>20, tr)
				continue
			}
			if second, _ := cost(one, large); second-first > betweenTwo+perByte*(len(large)-len(small)) {
				t.Errorf("%s, %s: %d bytes cost %d MiB, and %d cost %d", kind, name, len(small), first>>20, len(large), second>>20)
			}
		}
	}
}
