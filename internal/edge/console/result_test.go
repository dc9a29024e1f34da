package console_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// Statistics by result name what happened in words: a result is an action, what the scan fell on, and why it opened nothing.
func TestEachPartOfAResultHasWords(t *testing.T) {
	t.Parallel()
	parts := []any{scan.OpenMiniProgram, scan.OpenURL, scan.ShowText, scan.ShowMessage, scan.ByRule, scan.ByTestLink, scan.ByService,
		scan.ByCode, scan.ByGS1, codes.NotActive, codes.UnknownCode, codes.IsFrozen, codes.IsVoid, codes.NoRelease, codes.SerialOnly}
	for _, language := range []string{"en", "zh"} {
		text, err := os.ReadFile("locale/charts." + language + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var book map[string]string
		if err := json.Unmarshal(text, &book); err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			if book[fmt.Sprint("result.", part)] == "" {
				t.Errorf("%s: the result %q has no words", language, part)
			}
		}
	}
}
