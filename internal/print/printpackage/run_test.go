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

// key makes the keys of a test.
func keys(t *testing.T) (*codes.CodeKey, *codes.TextKey) {
	t.Helper()
	code, err := codes.NewCodeKey(bytes.Repeat([]byte{1}, codes.KeySize))
	require.NoError(t, err)
	text, err := codes.NewTextKey(bytes.Repeat([]byte{2}, codes.KeySize))
	require.NoError(t, err)
	return code, text
}

func list(t *testing.T, start, from, to uint64) codes.PackageRange {
	code, text := keys(t)
	return codes.PackageRange{Start: start, From: from, To: to, Code: code, Text: text,
		Printed: codes.Printed{Prefix: "C.EXAMPLE/A/", Version: codes.FirstVersion}}
}

// read is a code as a camera may have read it.
type read struct{ text, serial string }

func readsOf(t *testing.T, p codes.PackageRange) (all []read) {
	t.Helper()
	require.NoError(t, p.EachCode(t.Context(), func(_ uint64, code, text []byte) error {
		all = append(all, read{string(text), string(code)})
		return nil
	}))
	return all
}

func job(t *testing.T, spare int64, lists ...codes.PackageRange) *printpackage.Job {
	t.Helper()
	var file bytes.Buffer
	head := printpackage.LineHead{Package: 1, ApplicationID: 500000001, From: int64(lists[0].From), To: int64(lists[0].To), Spare: spare,
		Prefix: lists[0].Printed.Prefix, Text: lists[0].Template, Salt: "00ff"}
	if len(lists) > 1 {
		head.Proofs = lists[1].Rows()
	}
	var lots []codes.CodeSource
	for _, l := range lists {
		lots = append(lots, l)
	}
	require.NoError(t, printpackage.WriteLine(context.Background(), &file, head, lots...))
	whole := file.Bytes()
	// A file that is cut anywhere is refused.
	for _, n := range []int{0, 10, len(whole) / 2, len(whole) - 33, len(whole) - 1} {
		_, err := printpackage.ReadLine(bytes.NewReader(whole[:n]))
		require.True(t, err != nil, "%d of %d bytes were taken for whole", n, len(whole))
	}
	j, err := printpackage.ReadLine(bytes.NewReader(whole))
	require.NoError(t, err)
	return j
}

// spelt is a text in one of the spellings that cameras and readers give.
func spelt(rng *rand.Rand, r read) string {
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

// Issue 28: cameras and spreadsheets put something around a read. What stands around a code is understood, and what is no code
// stays foreign.
func TestPrintRun_SurroundingCharacters(t *testing.T) {
	t.Parallel()
	of := list(t, 0, 0, 9)
	mine, other := readsOf(t, of), readsOf(t, list(t, 0, 10, 19))
	for around, want := range map[string]printpackage.Verdict{"%s": printpackage.Good, "\ufeff%s": printpackage.Good,
		"]Q1%s": printpackage.Good,
		"]d2%s": printpackage.Good, `"%s"`: printpackage.Good, `'%s'`: printpackage.Good, "\ufeff\"]Q3%s\" ": printpackage.Good,
		"x%sx": printpackage.Foreign, "%s1": printpackage.Foreign} {
		for _, code := range []func(read) string{func(r read) string { return r.text }, func(r read) string { return r.serial }} {
			r := printpackage.NewRun(job(t, 0, of))
			if v, index := r.Read(fmt.Sprintf(around, code(mine[7]))); v != want || want == printpackage.Good && index != 7 {
				t.Errorf("%q around %s is %s of %d, not %s", around, code(mine[7]), v, index, want)
			}
			v, _ := r.Read(fmt.Sprintf(around, code(other[7])))
			assert.Equal(t, v, printpackage.Foreign, "%q around a code of another job", around)
		}
	}
	r := printpackage.NewRun(job(t, 0, of))
	v, index := r.Read("https://camera.example/read?line=4&code=" + mine[3].text)
	assert.True(t, v == printpackage.Good && index == 3, "behind an address: %s of %d", v, index)
	for _, empty := range []string{`""`, `"NOREAD"`, "\ufeff", "]Q1"} {
		v, _ := r.Read(empty)
		assert.Equal(t, v, printpackage.Unread, "%q", empty)
	}
}

// Issue 34, 1: a camera reads texts by template in each of their spellings, and each is one code; what another job printed, and a text of
// which one character is another, stays foreign.
func TestPrintRun_TemplateTexts(t *testing.T) {
	t.Parallel()
	for _, template := range []string{"https://id.brand.example/01/09506000134352/21/{serial}?98={secret}", "12345678901{digits:21}",
		"Trade Name A\nCode: {digits:20}\nhttps://seed.example/{serial}", "HTTP://T.EXAMPLE/{serial}{secret}"} {
		of, others := list(t, 0, 0, 9), list(t, 0, 10, 19)
		of.Template, others.Template = template, template
		mine, other := readsOf(t, of), readsOf(t, others)
		for name, spelling := range spellings(mine[7].text) {
			r := printpackage.NewRun(job(t, 0, of))
			v, index := r.Read(spelling)
			assert.True(t, v == printpackage.Good && index == 7, "%s: %s, %q, is %s of %d", template, name, spelling, v, index)
			v, index = r.Read(mine[7].text)
			assert.True(t, v == printpackage.Double && index == 7, "%s: %s and then as printed is %s of %d", template, name, v, index)
		}
		r := printpackage.NewRun(job(t, 0, of))
		for name, spelling := range spellings(other[7].text) {
			v, _ := r.Read(spelling)
			assert.Equal(t, v, printpackage.Foreign, "%s: %s of another job", template, name)
		}
		for at := range mine[7].text {
			if strings.HasPrefix(strings.ToLower(template), "http") && at < len("https://") {
				continue // a scheme may be any other, or none
			}
			wrong := mine[7].text[:at] + "~" + mine[7].text[at+1:]
			v, _ := r.Read(wrong)
			assert.Equal(t, v, printpackage.Foreign, "%q in place of %q", wrong, mine[7].text)
		}
		v, index := r.Read(mine[7].serial)
		assert.True(t, v == printpackage.Good && index == 7, "%s: its nine characters are %s of %d", template, v, index)
	}
}

// spellings are how cameras and readers give a text.
func spellings(text string) map[string]string {
	all := map[string]string{"as printed": text, "in capitals": strings.ToUpper(text), "in lower case": strings.ToLower(text),
		"behind an address": "https://camera.example/read?line=4&code=" + text, "with its kind of symbol": "]Q1" + text,
		"with a return": strings.ReplaceAll(text, "\n", "\r\n"), "in quotes": `"` + text + `"`,
		"on one line":                    strings.NewReplacer("\n", `\n`, " ", `\s`).Replace(text),
		"with the ends of lines written": strings.ReplaceAll(text, "\n", `\n`)}
	if scheme, rest, has := strings.Cut(text, "://"); has && !strings.Contains(scheme, "\n") {
		all["without its scheme"], all["with the other scheme"] = rest, "http://"+rest
	}
	if data, err := gs1.Parse(text); err == nil && !data.Key.IsZero() {
		all["an element string"], all["of a GS1 Data Matrix"] = data.ElementString(), "]d2"+data.ElementString()
		all["in brackets"] = data.Bracketed()
	}
	return all
}

// Of printing runs with planted faults every fault is found where it is, and none is invented.
func TestPrintRun_PlantedFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 18))
		n, from, proofs := 50+rng.IntN(400), uint64(rng.IntN(3000)), 1+rng.IntN(9)
		spare := rng.IntN(n / 10)
		of := list(t, 1_000_000*seed, from, from+uint64(n)-1)
		trial := list(t, 900_000_000, 0, uint64(proofs)-1)
		mine, proof := readsOf(t, of), readsOf(t, trial)
		// Codes of the same batch outside the job, and texts that nobody made.
		other := readsOf(t, list(t, 1_000_000*seed, from+uint64(n), from+uint64(n)+50))
		ordered := n - spare

		r := printpackage.NewRun(job(t, int64(spare), of, trial))
		var missing, spoiled, reprinted []int64
		var double, foreign, proofed, spoiledAt []int64
		pick := rng.Perm(ordered)
		take := func(most int) (some []int64) {
			k := rng.IntN(min(most, len(pick)))
			for _, i := range pick[:k] {
				some = append(some, int64(from)+int64(i))
			}
			pick = pick[k:]
			slices.Sort(some)
			return some
		}
		missing, spoiled, reprinted = take(6), take(6), take(6)
		twice := take(6)
		r.Spoiled, r.Reprinted = setOf(spoiled), setOf(reprinted)
		seenSpoiled := spoiled[:rng.IntN(len(spoiled)+1)]

		type line struct {
			text string
			note *[]int64
		}
		var log []line
		for i := range ordered {
			index := int64(from) + int64(i)
			if slices.Contains(missing, index) || slices.Contains(spoiled, index) {
				continue
			}
			log = append(log, line{spelt(rng, mine[i]), nil})
		}
		rng.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		put := func(text string, to *[]int64) {
			at := rng.IntN(len(log) + 1)
			log = slices.Insert(log, at, line{text, to})
		}
		for range rng.IntN(6) {
			put(other[rng.IntN(len(other))].text, &foreign)
		}
		for range rng.IntN(3) {
			put("C.EXAMPLE/A/0"+strings.Repeat("A", 18), &foreign)
			put("https://elsewhere.example/", &foreign)
		}
		for range rng.IntN(4) {
			put(proof[rng.IntN(proofs)].text, &proofed)
		}
		for _, index := range seenSpoiled {
			put(mine[index-int64(from)].text, &spoiledAt)
		}
		// Behind everything: a second read of the very same kind.
		kindOf := func(i int64) string {
			for _, l := range log {
				for _, text := range []string{mine[i].text, mine[i].serial} {
					if strings.EqualFold(strings.ReplaceAll(strings.TrimPrefix(l.text, "https://"), "%24", "$"), text) {
						return text
					}
				}
			}
			t.Fatalf("code %d is not in the log", i)
			return ""
		}
		for _, index := range twice {
			log = append(log, line{kindOf(index - int64(from)), &double})
		}
		for _, index := range reprinted {
			log = append(log, line{kindOf(index - int64(from)), nil}, line{"NOREAD", nil}, line{"", nil})
		}
		for _, index := range reprinted[:min(1, len(reprinted))] { // a third time is one too many
			log = append(log, line{kindOf(index - int64(from)), &double})
		}
		used := 0
		for i := ordered; i < n && rng.IntN(2) == 0; i++ {
			used++
			log = append(log, line{mine[i].text, nil})
		}

		for i, l := range log {
			r.Read(l.text)
			if l.note != nil {
				*l.note = append(*l.note, int64(i+1))
			}
		}
		got := r.Report()
		name := fmt.Sprint("seed ", seed)
		equal(t, name+" missing", setOf(missing), codes.NewSet(got.Missing...))
		equal(t, name+" missing codes", int64(len(missing)), got.MissingCodes)
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
			equal(t, name+" "+c.kind, c.want, lines)
		}
		equal(t, name+" spare", int64(used), got.SpareUsed)
		equal(t, name+" over-run", max(0, int64(used-len(missing)-len(spoiled))), got.OverRun)
		wrong := len(missing)+len(double)+len(foreign)+len(proofed)+len(spoiledAt) > 0 || got.OverRun > 0
		equal(t, name+" clean", !wrong, got.Clean())
	}
}

func setOf(list []int64) codes.Set {
	var ranges []codes.Range
	for _, i := range list {
		ranges = append(ranges, codes.Range{From: i, To: i})
	}
	return codes.NewSet(ranges...)
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	assert.True(t, fmt.Sprint(want) == fmt.Sprint(got), "%s: want %v, got %v", what, want, got)
}
