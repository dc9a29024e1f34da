package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestStory_CaseOfImportedCode imports a list of texts of another system as an operator. One of the codes is copied: the brand manager puts
// the alarm into a new case, reads the report in the language of the page, and closes the case.
func TestStory_CaseOfImportedCode(t *testing.T) {
	screens := testscope.Select([]screen{{"en", 390}, {"zh-CN", 1600}}, []screen{{"en", 390}})
	report := []string{"<h1>Case 1: Stall &lt;7&gt;</h1>", "<h1>案件 2：Stall &lt;7&gt;</h1>"}
	var seed strings.Builder
	seed.WriteString("accounts:\n")
	for i := range screens {
		fmt.Fprintf(&seed, "  - {appid: brand%d, kind: service_account, secret: the-secret-of-brand%[1]d, certified: true, "+
			"features: [marketcode], marketcode_key: 0123456789abcdef}\n", i)
	}
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: seed.String()})
	key, window := newScanKey(s), browsertest.Start(t, "")
	createPerson(s, "olga", adminroute.Operator)
	for i, c := range screens {
		t.Run(fmt.Sprint(c.language, c.width), func(t *testing.T) {
			name, brand := fmt.Sprintf("mia%d", i), fmt.Sprintf("brand%d", i)
			createPerson(s, name, adminroute.Marketer, brand)
			p := resetTab(t, window, c.language, c.width)
			p.signIn(s, "olga")
			p.navigate("/console/codes")
			p.click(`.tabs a[href^="/console/orders"]`)
			site := fmt.Sprintf("https://old%d.example/c/", i)
			for field, text := range map[string]string{"account": brand, "isv_application_id": "old", "text": site + "{token:8}",
				"list": site + strings.Join(strings.Split("aBcDeFgH", ""), "1234567\r"+site) + "1234567"} {
				p.write(fmt.Sprintf(`form[action^="/console/orders/texts"] [name=%q]`, field), text)
			}
			p.click(`form[action^="/console/orders/texts"] button.primary`)
			p.waitMessage("done.texts")
			scanAsCopy(t, s, brand, key)

			p = resetTab(t, window, c.language, c.width)
			p.signIn(s, name)
			p.navigate("/console/alarms")
			p.click(".every input")
			p.write("#case_title", "Stall <7>")
			p.click(`button[value="assign"]`)
			p.waitMessage("stats.alarms.none")
			p.click(`main a[href^="/console/cases"]`)
			p.click(`td a[href^="/console/cases/"]`)
			p.await(`!!document.querySelector('a[href*="sheet.html"]')`)
			p.await(`(fetch(document.querySelector('a[href*="sheet.html"]').href).then(r => r.text())
				.then(text => { window.report = text }), true)`)
			p.await(fmt.Sprintf(`!!window.report?.includes(%q)`, report[i]))
			p.choose(`select[name="state"]`, "closed")
			p.click(`button[value="save"]`)
			p.waitMessage("done.alarm")
			p.waitFor(func() bool {
				return strings.Contains(s.Admin("GET", "/cases?state=closed&owner="+brand, "").Body, "Stall")
			})
		})
	}
}
