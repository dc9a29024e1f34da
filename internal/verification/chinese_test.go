package verification

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every word for what to do, and every name of a step, has its Chinese.
func TestEveryStepHasItsChinese(t *testing.T) {
	code, err := os.ReadFile("verification.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile("../outbound/outbound.go")
	if err != nil {
		t.Fatal(err)
	}
	cures := map[string]bool{}
	for _, found := range regexp.MustCompile(`\bReason = "(\w+)"`).FindAllStringSubmatch(string(reasons), -1) {
		cures[found[1]] = true
	}
	_, statuses, _ := strings.Cut(string(code), "\nfunc cureOfStatus")
	statuses, _, _ = strings.Cut(statuses, "\n}\n")
	for _, found := range regexp.MustCompile(`return "(\w+)"`).FindAllStringSubmatch(statuses, -1) {
		cures[found[1]] = true
	}
	cure := regexp.MustCompile(`v\.(?:warn|fail)\("(\w+)", [^\n"]+(?:"none")?, "(\w+)"`)
	for _, found := range cure.FindAllStringSubmatch(string(code), -1) {
		cures[found[2]] = true
	}
	if len(cures) < 20 {
		t.Fatalf("only %d words were found: %v", len(cures), cures)
	}
	for cure := range cures {
		if cureChinese[cure] == "" {
			t.Errorf("%q has no Chinese", cure)
		}
	}
	for cure := range cureChinese {
		if !cures[cure] {
			t.Errorf("%q is no word for what to do", cure)
		}
	}
	for _, found := range regexp.MustCompile(`v\.(?:pass|warn|fail)\("(\w+)"`).FindAllStringSubmatch(string(code), -1) {
		if didChinese[found[1]] == "" {
			t.Errorf("the step %q has no Chinese", found[1])
		}
	}
	for _, did := range words {
		if didChinese[did] == "" {
			t.Errorf("the step %q has no Chinese", did)
		}
	}
}
