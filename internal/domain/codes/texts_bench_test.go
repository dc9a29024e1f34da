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

// BenchmarkScan measures the scan of a text in the server's format, of a text by template, and of a link that is no code, with no and with
// a thousand templates. Decision 68 has the results.
func BenchmarkScan(b *testing.B) {
	for _, templates := range []int{0, 1000} {
		p := newTemplateService(b, templates)
		texts := map[string]string{"own": p.Text(p.batchAt(0), 7), "link": "https://shop.example/table/12?from=scan&desk=77&x=" +
			strings.Repeat("y", 20)}
		if templates > 0 {
			texts["template"] = p.Text(p.batchAt(templates), 7)
		}
		for name, text := range texts {
			b.Run(fmt.Sprintf("%s,templates=%d", name, templates), func(b *testing.B) {
				if _, ok := p.Scan(text, "", noAccount); ok != (name != "link") {
					b.Fatalf("%q is a code: %t, want %t", text, ok, name != "link")
				}
				b.ReportAllocs()
				for b.Loop() {
					p.MayBeCode(text)
					p.Scan(text, "", noAccount)
				}
			})
		}
	}
}

// TestTemplateLookup_ConstantCost verifies without a clock that a thousand templates add nothing to the scan of a text: one group has all
// templates, and a scan allocates nothing.
func TestTemplateLookup_ConstantCost(t *testing.T) {
	p := newTemplateService(t, 1000)
	assert.Equal(t, len(p.Memory.allTemplates().groups), 1, "groups of a thousand templates")
	for _, text := range []string{p.Text(p.batchAt(0), 7), "https://shop.example/table/12?from=scan",
		"https://id.brand.example/01/09506000134352/21/A" + strings.Repeat("b", 31)} {
		n := testing.AllocsPerRun(100, func() { p.MayBeCode(text); p.Scan(text, "", noAccount) })
		assert.True(t, !(n > 0), "scan of %q: %.0f allocations, want 0", text, n)
	}
}

func noAccount(string) (accounts.Account, bool) { return accounts.Account{}, false }

// BenchmarkTexts measures the output of texts of each format.
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

// benchTemplate returns the template of a GS1 link with the GTIN i.
func benchTemplate(i int) string {
	return fmt.Sprintf("https://id.brand.example/01/%014d/21/{serial}?98={secret}", i)
}

// newTemplateService returns a Service with a batch in the server's format and one batch for each of n templates.
func newTemplateService(t testing.TB, n int) *Service {
	code, text := testKeys(t)
	p := &Service{Keys: Keys{Code: code, Text: map[byte]*TextKey{FirstVersion: text}, Current: FirstVersion}, Prefix: DefaultPrefix,
		Memory: NewMemory(nil), Now: time.Now}
	for i := range n + 1 {
		batch := Batch{ID: int64(i + 1), Count: 10_000, Start: uint64(i) * 10_000, Prefix: DefaultPrefix, Version: FirstVersion}
		if i > 0 {
			batch.Template = benchTemplate(i)
		}
		p.Memory.add(batch)
	}
	return p
}

func (s *Service) batchAt(i int) Batch { return s.Memory.batches[int64(i+1)].Batch }
