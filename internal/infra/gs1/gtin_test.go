package gs1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// GS1 General Specifications, 7.9: the samples are from GS1's own pages.
func TestGTIN_CheckDigit(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"6901234567892", "4006381333931", "5901234123457", "036000291452", "614141000036", "96385074", "73513537",
		"10614141000415", "00012345600012"} {
		assert.True(t, ValidGTIN(good), "%s is refused", good)
		for i := range good {
			for d := range 10 {
				changed := good[:i] + fmt.Sprint(d) + good[i+1:]
				assert.True(t, changed == good || !ValidGTIN(changed), "%s is accepted beside %s", changed, good)
			}
		}
	}
	for _, bad := range []string{"", "test_code", "690123456789", "69012345678920", "6901234567893", "６９０１２３４５６７８９２", "690123456789 ",
		"+901234567892", strings.Repeat("0", 9)} {
		assert.True(t, !ValidGTIN(bad), "%q is accepted", bad)
	}
}
