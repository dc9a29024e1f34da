package codes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// BenchmarkScan is what it costs to decide a text, on a server whose applications have no templates, and on one with a thousand: a text of
// the server's own, a text by template, and a link that is no code. Decision 68 has the numbers.
func BenchmarkScan(b *testing.B) {
	for _, templates := range []int{0, 1000} {
		p := manyTemplates(b, templates)
		texts := map[string]string{"own": p.Text(p.batchAt(0), 7), "link": "https://shop.example/table/12?from=scan&desk=77&x=" +
			strings.Repeat("y", 20)}
		if templates > 0 {
			texts["template"] = p.Text(p.batchAt(templates), 7)
		}
		for name, text := range texts {
			b.Run(fmt.Sprintf("%s,templates=%d", name, templates), func(b *testing.B) {
				nobody := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
				if _, ok := p.Scan(text, "", nobody); ok != (name != "link") {
					b.Fatalf("%q is a code: %t", text, ok)
				}
				b.ReportAllocs()
				for b.Loop() {
					p.MayBeCode(text)
					p.Scan(text, "", nobody)
				}
			})
		}
	}
}

// What a thousand templates cost texts that are by none of them is said by no clock here: nothing is allocated, and each is found by one
// look, not by a thousand.
func TestTemplateLookup_ConstantCost(t *testing.T) {
	p := manyTemplates(t, 1000)
	n := len(p.Memory.allTemplates().groups)
	assert.True(t, n == 1, "a thousand GTINs are looked for in %d places", n)
	nobody := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
	for _, text := range []string{p.Text(p.batchAt(0), 7), "https://shop.example/table/12?from=scan",
		"https://id.brand.example/01/09506000134352/21/A" + strings.Repeat("b", 31)} {
		n := testing.AllocsPerRun(100, func() { p.MayBeCode(text); p.Scan(text, "", nobody) })
		assert.True(t, !(n > 0), "%q: %.0f allocations", text, n)
	}
}

// BenchmarkTexts is what it costs to write texts of each form.
func BenchmarkTexts(b *testing.B) {
	for name, template := range map[string]string{"own": "", "GS1": benchTemplate(1), "digits": "12345678901{digits:21}"} {
		b.Run(name, func(b *testing.B) {
			p := testRange(b, 0, 9_999)
			p.Template = template
			for b.Loop() {
				require.NoError(b, p.EachCode(b.Context(), func(uint64, []byte, []byte) error { return nil }))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/code")
		})
	}
}

// benchTemplate is a link of a GTIN.
func benchTemplate(i int) string {
	return fmt.Sprintf("https://id.brand.example/01/%014d/21/{serial}?98={secret}", i)
}

// manyTemplates is a press with a batch of its own texts, and one for each of so many templates.
func manyTemplates(t testing.TB, templates int) *Service {
	code, text := testKeys(t)
	p := &Service{Keys: Keys{Code: code, Text: map[byte]*TextKey{FirstVersion: text}, Current: FirstVersion}, Prefix: DefaultPrefix,
		Memory: NewMemory(nil), Now: time.Now}
	for i := range templates + 1 {
		one := Batch{ID: int64(i + 1), Count: 10_000, Start: uint64(i) * 10_000, Prefix: DefaultPrefix, Version: FirstVersion}
		if i > 0 {
			one.Template = benchTemplate(i)
		}
		p.Memory.add(one)
	}
	return p
}

func (s *Service) batchAt(i int) Batch { return s.Memory.batches[int64(i+1)].Batch }
