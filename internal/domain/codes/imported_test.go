package codes

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func newImportService(t testing.TB) *Service {
	t.Helper()
	key := require.Value(sealer.NewKey(bytes.Repeat([]byte("k"), 32)))(t)
	return &Service{Vault: key}
}

// TestImportedCodes_GoldenStorage verifies the stored form of imported codes, which never changes. The values were computed with openssl.
func TestImportedCodes_GoldenStorage(t *testing.T) {
	p := newImportService(t)
	for text, want := range map[string]struct {
		code   string
		n      int64
		hi, lo int64
	}{
		"0ALL$V2QCNVRHYPO:K3": {"044GZ*J10", 18728279770591, -7757136837199938881, 95022409556037751},
		"0Q%L$BP4-J:G3I%BLV:": {"8", 9, -2160478909157704458, -6299703354989102189},
		":::::::::::::::::::": {":::::::::", 756680642578124, 3403378844435783575, -1122768252519187369},
	} {
		n, ok := packCode(want.code)
		hi, lo := p.encryptTail(tail([]byte(text)))
		assert.True(t, ok && n == want.n && hi == want.hi && lo == want.lo, "%s %s is stored as %d, %d, %d, want %+v", text, want.code, n,
			hi, lo, want)
		if back, ok := p.decryptTail(hi, lo); !ok || string(back[:]) != text || unpackCode(n) != want.code {
			t.Errorf("%s is read back as %s, %s as %s", text, back[:], want.code, unpackCode(n))
		}
		if back, ok := p.decryptTail(hi, lo+1); ok {
			t.Errorf("a changed block is read as %s", back[:])
		}
	}
	for digits, want := range map[string][2]int64{
		"81234567203948571126":                 {-3441634643401054898, 5991205627013801811},
		"000000000000000":                      {-6594195055878502021, -514776864661993116},
		"999999999999999999999999999999999999": {8525218265197632447, 8925312320304364702},
	} {
		hi, lo := p.encryptSecret(digits, digitsField)
		assert.True(t, hi == want[0] && lo == want[1], "%s is stored as %d, %d, want %v", digits, hi, lo, want)
	}
	for _, wrong := range []string{"", "ABCDEFGHIJ", "A B", "a", "É"} {
		n, ok := packCode(wrong)
		assert.True(t, !ok, "%q is the code %d", wrong, n)
	}
}

// Contract: marketcode 5.2, 5.4: "%" is a symbol, and begins an escape too.
func TestPrefixTails_PercentEscapes(t *testing.T) {
	for text, want := range map[string][]string{
		"P.URL.CN/0Q%L$BP4-J:G3I%BLV:":                   {"0Q%L$BP4-J:G3I%BLV:"},
		"http://p.url.cn/0q%l$bp4-j:g3i%blv:":            {"0Q%L$BP4-J:G3I%BLV:"},
		"https://P.URL.CN/0Q%25L%24BP4-J%3AG3I%25BLV%3A": {"0Q%L$BP4-J:G3I%BLV:"},
		"P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*":                   {"0FQR/LZ6/0HD0Q7Y3-*"},
		"P.URL.CN/0FQR/../LZ6/0HD0Q7Y":                   {"0FQR/../LZ6/0HD0Q7Y"},
		"P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*?":                  nil,
		"P.URL.CN/":                                      nil,
		"Q.URL.CN/0FQR/LZ6/0HD0Q7Y3-*":                   nil,
		" P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*":                  nil,
	} {
		var got []string
		for _, tail := range possibleTails(DefaultPrefix, text) {
			got = append(got, string(tail[:]))
		}
		assert.True(t, slices.Equal(got, want), "%s: %q, want %q", text, got, want)
	}
}

// FuzzImportLines verifies that ImportLines reads a file to its end or rejects it with a line number, and that the stored form of each row
// decrypts to the row.
func FuzzImportLines(f *testing.F) {
	line := strings.Repeat("0", 361) + " 044GZ*J10 0 P.URL.CN/0ALL$V2QCNVRHYPO:K3\n"
	f.Add(line)
	f.Add(line + strings.Replace(line, " 0 ", "\t1 ", 1))
	f.Add("\ufeff" + strings.ReplaceAll(line, "\n", "\r\n"))
	f.Fuzz(func(t *testing.T, text string) {
		p := newImportService(t)
		for l, err := range ImportLines(iotest.OneByteReader(strings.NewReader(text)), 1) {
			if err != nil {
				faults, ok := errors.AsType[accounts.RowErrors](err)
				assert.True(t, ok && (faults[0].Line == int(l.Number) || l.Number == 0), "line %d: %v", l.Number, err)
				continue
			}
			n, ok := packCode(l.Code)
			prefix, rest, err := l.Cut()
			if err != nil {
				continue
			}
			hi, lo := p.encryptTail(tail([]byte(rest)))
			if back, textOK := p.decryptTail(hi, lo); !ok || unpackCode(n) != l.Code || !textOK || prefix+string(back[:]) != l.Text {
				t.Errorf("%+v is read back as %s and %s", l, unpackCode(n), back[:])
			}
		}
	})
}

// TestImportedDigits_RoundTrip verifies that stored digits of each length decrypt to themselves, and neither to digits of another length
// nor to symbols.
func TestImportedDigits_RoundTrip(t *testing.T) {
	t.Parallel()
	p := newImportService(t)
	seen := map[[2]int64]string{}
	for n := minDigits; n <= maxDigits; n++ {
		part := templatePart{field: digitsField, size: n}
		for _, digits := range []string{strings.Repeat("0", n), strings.Repeat("9", n), strings.Repeat("1234567890", 4)[:n],
			strings.Repeat("0", n-1) + "7"} {
			hi, lo := p.encryptSecret(digits, digitsField)
			row := ImportedCode{TextHi: hi, TextLo: lo}
			back, ok := p.decryptSecret(row, part)
			assert.True(t, ok && back == digits, "%s decrypts to %s, %t", digits, back, ok)
			earlier, duplicate := seen[[2]int64{hi, lo}]
			assert.True(t, !duplicate, "%s and %s have one stored form", digits, earlier)
			seen[[2]int64{hi, lo}] = digits
			_, ok = p.decryptSecret(row, templatePart{field: digitsField, size: n ^ 1})
			assert.True(t, !ok, "%s decrypts to %d digits, want an error", digits, n^1)
			_, ok = p.decryptTail(hi, lo)
			assert.True(t, !ok, "%s decrypts to symbols, want an error", digits)
		}
	}
}
