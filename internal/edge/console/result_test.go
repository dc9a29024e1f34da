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

// Statistics by result name what happened in words: a result is an action, what the scan fell on, and why it opened nothing.
func TestScanResult_AllPartsTranslated(t *testing.T) {
	t.Parallel()
	parts := []any{scan.OpenMiniProgram, scan.OpenURL, scan.ShowText, scan.ShowMessage, scan.ByRule, scan.ByTestLink, scan.ByService,
		scan.ByCode, scan.ByGS1, codes.NotActive, codes.UnknownCode, codes.IsFrozen, codes.IsVoid, codes.NoRelease, codes.SerialOnly}
	for _, language := range []string{"en", "zh"} {
		text, err := os.ReadFile("locale/charts." + language + ".json")
		require.NoError(t, err)
		var catalog map[string]string
		require.NoError(t, json.Unmarshal(text, &catalog))
		for _, part := range parts {
			assert.True(t, catalog[fmt.Sprint("result.", part)] != "", "%s: the result %q has no words", language, part)
		}
	}
}
