package printpackage_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newKeys returns the keys of the tests.
func newKeys(t *testing.T) (*codes.CodeKey, *codes.TextKey) {
	t.Helper()
	code := require.Value(codes.NewCodeKey(bytes.Repeat([]byte{1}, codes.KeySize)))(t)
	text := require.Value(codes.NewTextKey(bytes.Repeat([]byte{2}, codes.KeySize)))(t)
	return code, text
}

func newRange(t *testing.T, start, from, to uint64) codes.PackageRange {
	code, text := newKeys(t)
	return codes.PackageRange{Start: start, From: from, To: to, Code: code, Text: text,
		Printed: codes.Printed{Prefix: "C.EXAMPLE/A/", Version: codes.FirstVersion}}
}

// cameraRead is a code as a camera reads it.
type cameraRead struct{ text, serial string }

func readsOf(t *testing.T, p codes.PackageRange) (reads []cameraRead) {
	t.Helper()
	require.NoError(t, p.EachCode(t.Context(), func(_ uint64, code, text []byte) error {
		reads = append(reads, cameraRead{string(text), string(code)})
		return nil
	}))
	return reads
}

func newJob(t *testing.T, spare int64, lists ...codes.PackageRange) *printpackage.Job {
	t.Helper()
	var file bytes.Buffer
	head := printpackage.LineHead{Package: 1, ApplicationID: 500000001, From: int64(lists[0].From), To: int64(lists[0].To), Spare: spare,
		Prefix: lists[0].Printed.Prefix, Text: lists[0].Template, Salt: "00ff"}
	if len(lists) > 1 {
		head.Proofs = lists[1].Rows()
	}
	var sources []codes.CodeSource
	for _, l := range lists {
		sources = append(sources, l)
	}
	require.NoError(t, printpackage.WriteLine(context.Background(), &file, head, sources...))
	// Truncated files are rejected.
	for _, n := range []int{0, 10, file.Len() / 2, file.Len() - 33, file.Len() - 1} {
		_, err := printpackage.ReadLine(bytes.NewReader(file.Bytes()[:n]))
		require.True(t, err != nil, "ReadLine of %d of %d bytes succeeded, want an error", n, file.Len())
	}
	return require.Value(printpackage.ReadLine(&file))(t)
}

// randomSpelling returns a text in one of the spellings of cameras and readers.
func randomSpelling(rng *rand.Rand, r cameraRead) string {
	switch rng.IntN(5) {
	case 0:
		return r.serial
	case 1:
		return "https://" + strings.ToLower(r.text)
	case 2:
		return strings.ReplaceAll(r.text, "$", "%24")
	}
	return r.text
}

// TestPrintRun_SurroundingCharacters verifies that characters that cameras and spreadsheets add to a code are ignored and that other texts
// are foreign.
func TestPrintRun_SurroundingCharacters(t *testing.T) {
	t.Parallel()
	codeRange := newRange(t, 0, 0, 9)
	reads, other := readsOf(t, codeRange), readsOf(t, newRange(t, 0, 10, 19))
	for format, want := range map[string]printpackage.Verdict{"%s": printpackage.Good, "\ufeff%s": printpackage.Good,
		"]Q1%s": printpackage.Good,
		"]d2%s": printpackage.Good, `"%s"`: printpackage.Good, `'%s'`: printpackage.Good, "\ufeff\"]Q3%s\" ": printpackage.Good,
		"x%sx": printpackage.Foreign, "%s1": printpackage.Foreign} {
		for _, code := range []func(cameraRead) string{func(r cameraRead) string { return r.text },
			func(r cameraRead) string { return r.serial }} {
			r := printpackage.NewRun(newJob(t, 0, codeRange))
			if v, index := r.Read(fmt.Sprintf(format, code(reads[7]))); v != want || want == printpackage.Good && index != 7 {
				t.Errorf("Read of %s in %q = %s, %d, want %s, 7", code(reads[7]), format, v, index, want)
			}
			v, _ := r.Read(fmt.Sprintf(format, code(other[7])))
			assert.Equal(t, v, printpackage.Foreign, "Read of a code of another job in %q", format)
		}
	}
	r := printpackage.NewRun(newJob(t, 0, codeRange))
	for i, text := range []string{"https://camera.example/read?line=4&code=", strings.Repeat("\xff", 100), "ɐɐɐ", "C.EXAMPLE/A/ "} {
		v, index := r.Read(text + reads[i].text)
		assert.True(t, v == printpackage.Good && index == int64(i), "Read of a code after %q = %s, %d, want %s, %d", text, v, index,
			printpackage.Good, i)
	}
	for _, empty := range []string{`""`, `"NOREAD"`, "\ufeff", "]Q1"} {
		v, _ := r.Read(empty)
		assert.Equal(t, v, printpackage.Unread, "Read(%q)", empty)
	}
}

// TestPrintRun_TemplateTexts verifies that each spelling of a text by template is read as its code, and that codes of another job and texts
// with a wrong character are foreign.
func TestPrintRun_TemplateTexts(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"https://id.brand.example/01/09506000134352/21/{serial}?98={secret}", "12345678901{digits:21}",
		"Trade Name A\nCode: {digits:20}\nhttps://seed.example/{serial}", "HTTP://T.EXAMPLE/{serial}{secret}"} {
		codeRange, otherRange := newRange(t, 0, 0, 9), newRange(t, 0, 10, 19)
		codeRange.Template, otherRange.Template = template, template
		reads, other := readsOf(t, codeRange), readsOf(t, otherRange)
		for name, spelling := range spellings(reads[7].text) {
			r := printpackage.NewRun(newJob(t, 0, codeRange))
			v, index := r.Read(spelling)
			assert.True(t, v == printpackage.Good && index == 7, "%s: Read of %q, %s, = %s, %d, want good, 7", template, spelling, name, v,
				index)
			v, index = r.Read(reads[7].text)
			assert.True(t, v == printpackage.Double && index == 7, "%s: second Read, after %s, = %s, %d, want double, 7", template, name, v,
				index)
		}
		r := printpackage.NewRun(newJob(t, 0, codeRange))
		for name, spelling := range spellings(other[7].text) {
			v, _ := r.Read(spelling)
			assert.Equal(t, v, printpackage.Foreign, "%s: %s of another job", template, name)
		}
		for i := range reads[7].text {
			if strings.HasPrefix(strings.ToLower(template), "http") && i < len("https://") {
				continue // the scheme is ignored
			}
			wrong := reads[7].text[:i] + "~" + reads[7].text[i+1:]
			v, _ := r.Read(wrong)
			assert.Equal(t, v, printpackage.Foreign, "Read of %q instead of %q", wrong, reads[7].text)
		}
		v, index := r.Read(reads[7].serial)
		assert.True(t, v == printpackage.Good && index == 7, "%s: Read of the nine characters = %s, %d, want good, 7", template, v, index)
	}
}

// spellings returns a text in the spellings of cameras and readers.
func spellings(text string) map[string]string {
	all := map[string]string{"as printed": text, "in capitals": strings.ToUpper(text), "in lower case": strings.ToLower(text),
		"after a URL": "https://camera.example/read?line=4&code=" + text, "with a symbology identifier": "]Q1" + text,
		"with a return": strings.ReplaceAll(text, "\n", "\r\n"), "in quotes": `"` + text + `"`,
		"on one line":                    strings.NewReplacer("\n", `\n`, " ", `\s`).Replace(text),
		"with the ends of lines written": strings.ReplaceAll(text, "\n", `\n`)}
	if scheme, rest, ok := strings.Cut(text, "://"); ok && !strings.Contains(scheme, "\n") {
		all["without its scheme"], all["with the other scheme"] = rest, "http://"+rest
	}
	if data, err := gs1.Parse(text); err == nil && !data.Key.IsZero() {
		all["an element string"], all["of a GS1 Data Matrix"] = data.ElementString(), "]d2"+data.ElementString()
		all["in brackets"] = data.Bracketed()
	}
	return all
}

// TestPrintRun_PlantedFaults reads random printing runs with known faults and verifies that the report has exactly these faults.
func TestPrintRun_PlantedFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 18))
		n, from, proofs := 50+rng.IntN(400), uint64(rng.IntN(3000)), 1+rng.IntN(9)
		spare := rng.IntN(n / 10)
		codeRange := newRange(t, 1_000_000*seed, from, from+uint64(n)-1)
		proofRange := newRange(t, 900_000_000, 0, uint64(proofs)-1)
		reads, proof := readsOf(t, codeRange), readsOf(t, proofRange)
		// Codes of the same batch outside the job.
		other := readsOf(t, newRange(t, 1_000_000*seed, from+uint64(n), from+uint64(n)+50))
		ordered := n - spare

		r := printpackage.NewRun(newJob(t, int64(spare), codeRange, proofRange))
		var missing, spoiled, reprinted []int64
		var double, foreign, proofed, spoiledAt []int64
		unused := rng.Perm(ordered)
		pick := func(limit int) (indexes []int64) {
			k := rng.IntN(min(limit, len(unused)))
			for _, i := range unused[:k] {
				indexes = append(indexes, int64(from)+int64(i))
			}
			unused = unused[k:]
			slices.Sort(indexes)
			return indexes
		}
		missing, spoiled, reprinted = pick(6), pick(6), pick(6)
		repeated := pick(6)
		r.Spoiled, r.Reprinted = setOf(spoiled), setOf(reprinted)
		seenSpoiled := spoiled[:rng.IntN(len(spoiled)+1)]

		type line struct {
			text  string
			lines *[]int64 // receives the line number if the line is a fault
		}
		var log []line
		for i := range ordered {
			index := int64(from) + int64(i)
			if slices.Contains(missing, index) || slices.Contains(spoiled, index) {
				continue
			}
			log = append(log, line{randomSpelling(rng, reads[i]), nil})
		}
		rng.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		insert := func(text string, lines *[]int64) {
			log = slices.Insert(log, rng.IntN(len(log)+1), line{text, lines})
		}
		for range rng.IntN(6) {
			insert(other[rng.IntN(len(other))].text, &foreign)
		}
		for range rng.IntN(3) {
			insert("C.EXAMPLE/A/0"+strings.Repeat("A", 18), &foreign)
			insert("https://elsewhere.example/", &foreign)
		}
		for range rng.IntN(4) {
			insert(proof[rng.IntN(proofs)].text, &proofed)
		}
		for _, index := range seenSpoiled {
			insert(reads[index-int64(from)].text, &spoiledAt)
		}
		// Repeated reads, at the end, have the form of the first read: text or serial.
		firstForm := func(i int64) string {
			for _, l := range log {
				for _, text := range []string{reads[i].text, reads[i].serial} {
					if strings.EqualFold(strings.ReplaceAll(strings.TrimPrefix(l.text, "https://"), "%24", "$"), text) {
						return text
					}
				}
			}
			t.Fatalf("code %d is not in the log", i)
			return ""
		}
		for _, index := range repeated {
			log = append(log, line{firstForm(index - int64(from)), &double})
		}
		for _, index := range reprinted {
			log = append(log, line{firstForm(index - int64(from)), nil}, line{"NOREAD", nil}, line{"", nil})
		}
		for _, index := range reprinted[:min(1, len(reprinted))] { // a third read is a fault
			log = append(log, line{firstForm(index - int64(from)), &double})
		}
		used := 0
		for i := ordered; i < n && rng.IntN(2) == 0; i++ {
			used++
			log = append(log, line{reads[i].text, nil})
		}

		for i, l := range log {
			r.Read(l.text)
			if l.lines != nil {
				*l.lines = append(*l.lines, int64(i+1))
			}
		}
		got := r.Report()
		name := fmt.Sprint("seed ", seed)
		assertEqual(t, name+" missing", setOf(missing), codes.NewSet(got.Missing...))
		assertEqual(t, name+" missing codes", int64(len(missing)), got.MissingCodes)
		for _, c := range []struct {
			kind  string
			want  []int64
			found []printpackage.Finding
		}{{"double", double, got.Found.Double}, {"foreign", foreign, got.Found.Foreign}, {"proof", proofed, got.Found.Proof},
			{"spoiled", spoiledAt, got.Found.Spoiled}} {
			var lines []int64
			for _, f := range c.found {
				lines = append(lines, f.Line)
			}
			assertEqual(t, name+" "+c.kind, c.want, lines)
		}
		assertEqual(t, name+" spare", int64(used), got.SpareUsed)
		assertEqual(t, name+" over-run", max(0, int64(used-len(missing)-len(spoiled))), got.OverRun)
		faulty := len(missing)+len(double)+len(foreign)+len(proofed)+len(spoiledAt) > 0 || got.OverRun > 0
		assertEqual(t, name+" clean", !faulty, got.Clean())
	}
}

func setOf(list []int64) codes.Set {
	var ranges []codes.Range
	for _, i := range list {
		ranges = append(ranges, codes.Range{From: i, To: i})
	}
	return codes.NewSet(ranges...)
}

func assertEqual(t *testing.T, name string, want, got any) {
	t.Helper()
	assert.Equal(t, fmt.Sprint(got), fmt.Sprint(want), "%s", name)
}
