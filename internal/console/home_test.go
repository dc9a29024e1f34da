package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// The console begins at home: it counts the scans of today, says what to do next and leads there, and whoever may see no scan is told of
// none.
func TestTheHomeSaysWhatToDoNext(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "mia", operations.Marketer)
	person(s, "vic", operations.Viewer)
	mia, vic := visit(t, s), visit(t, s)
	mia.signIn("mia", password, "")
	vic.signIn("vic", password, "")
	if p := mia.get("/console/"); p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/home" {
		t.Errorf("the console begins at %s", p.Header.Get("Location"))
	}
	mia.get("/console/home").wants(t, "No scan was counted yet", `<dt>Scans today</dt><dd>0</dd>`)
	key := scanKey(t, s)
	for i := range 1003 {
		text := "https://shop.example/7"
		if i < 3 {
			text = "https://gone.example/old/7"
		}
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d"}`, text, i), "Authorization: Bearer "+key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	mia.get("/console/home").wants(t, `<dt>Scans today</dt><dd>1,003</dd><dd>a week ago, to the same hour: 0</dd>`,
		`<dd>1,003</dd>`, `<div class="warn"><dt>Opened nothing, seven days</dt><dd>3</dd>`, "Most of them at gone.example/old",
		`href="/console/statistics#misses"`)
	p := vic.get("/console/home")
	if p.Status != http.StatusOK || strings.Contains(p.Body, "Scans today") || strings.Contains(p.Body, "gone.example") {
		t.Errorf("a viewer, who may see no scan, is shown %d: %s", p.Status, p.Body)
	}
}
