package console_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScanResult_AllPartsTranslated verifies that the catalogs describe every result of a scan: an action, the matched object, and the
// reason why nothing opened.
func TestScanResult_AllPartsTranslated(t *testing.T) {
	t.Parallel()
	results := []any{scan.OpenMiniProgram, scan.OpenURL, scan.ShowText, scan.ShowMessage, scan.ByRule, scan.ByTestLink, scan.ByService,
		scan.ByCode, scan.ByGS1, codes.NotActive, codes.UnknownCode, codes.IsFrozen, codes.IsVoid, codes.NoRelease, codes.SerialOnly}
	for _, language := range []string{"en", "zh"} {
		text := require.Value(os.ReadFile("locale/charts." + language + ".json"))(t)
		var catalog map[string]string
		require.NoError(t, json.Unmarshal(text, &catalog))
		for _, result := range results {
			assert.True(t, catalog[fmt.Sprint("result.", result)] != "", "%s: no message for the result %q", language, result)
		}
	}
}
