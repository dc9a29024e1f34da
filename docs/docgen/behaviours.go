package docgen

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/unsupported"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// subjects maps behaviour IDs and their beginnings to the endpoints that they concern; the longest matching beginning is used. A path that
// ends in * stands for all paths with this beginning, * alone stands for every call, and "" means that no wire API endpoint is concerned.
var subjects = map[string]string{
	"wire":                   "*",
	"caller":                 "*",
	"caller.platform":        "/cgi-bin/component/*",
	"caller.wants_platform":  "/cgi-bin/component/*",
	"caller.personal":        "/cgi-bin/wxopen/qrcodejump*",
	"caller.kind":            "/cgi-bin/wxopen/qrcodejump*",
	"wire.body.component":    "/cgi-bin/component/*",
	"wire.rate.rules":        "/cgi-bin/wxopen/qrcodejump*",
	"wire.answer.comma":      "/sns/*",
	"wire.answer.hint":       "/intp/marketcode/*",
	"wire.answer.slash":      "/cgi-bin/qrcode/create /cgi-bin/getcallbackip /sns/jscode2session",
	"wire.number.text":       "*",
	"token":                  "/cgi-bin/token /cgi-bin/stable_token /sns/jscode2session",
	"token.appid.former":     "/cgi-bin/token /cgi-bin/stable_token",
	"token.stable":           "/cgi-bin/stable_token",
	"token.day":              "/cgi-bin/token",
	"quota":                  "/cgi-bin/clear_quota* /cgi-bin/component/clear_quota* /cgi-bin/openapi/quota/*",
	"quota.path":             "/cgi-bin/openapi/quota/*",
	"rid":                    "/cgi-bin/openapi/rid/get",
	"login":                  "/sns/*",
	"component.ticket":       "/cgi-bin/component/api_component_token",
	"component.day":          "/cgi-bin/component/api_component_token",
	"component.code":         "/cgi-bin/component/api_query_auth",
	"component.refresh":      "/cgi-bin/component/api_authorizer_token",
	"component.account":      "/cgi-bin/component/api_authorizer_token /cgi-bin/component/api_get_authorizer_info",
	"component.list":         "/cgi-bin/component/api_get_authorizer_list",
	"component.reauthorized": "*",
	"component.option": "/cgi-bin/component/api_get_authorizer_option /cgi-bin/component/api_set_authorizer_option " +
		"/cgi-bin/component/get_authorizer_option /cgi-bin/component/set_authorizer_option",
	"codes.gate":           "*",
	"consent":              "",
	"message":              "",
	"scan":                 "",
	"codes.text":           "",
	"rules.add":            "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.test_link":      "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.confirm":        "/cgi-bin/wxopen/qrcodejumpadd",
	"outbound":             "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.edit":           "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.prefix":         "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.prefix.missing": "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumppublish /cgi-bin/wxopen/qrcodejumpdelete",
	"rules.prefix.unknown": "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumppublish /cgi-bin/wxopen/qrcodejumpdelete",
	"rules.target":         "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumpget",
	"rules.get":            "/cgi-bin/wxopen/qrcodejumpget",
	"rules.publish":        "/cgi-bin/wxopen/qrcodejumppublish",
	"rules.delete":         "/cgi-bin/wxopen/qrcodejumpdelete",
	"rules.undo":           "",
	"link":                 "/cgi-bin/wxopen/wxamplink",
	"link.appid":           "/cgi-bin/wxopen/wxamplink /cgi-bin/wxopen/wxampunlink",
	"link.end":             "/cgi-bin/wxopen/wxampunlink",
	"qrcode":               "/cgi-bin/qrcode/create",
	"qrcode.show":          "/cgi-bin/showqrcode",
	"qrcode.event":         "",
	"qrcode.outlived":      "",
	"codes":                "/intp/marketcode/*",
	"codes.apply":          "/intp/marketcode/applycode",
	"codes.prefix":         "/intp/marketcode/applycode",
	"codes.apply.approval": "/intp/marketcode/applycode",
	"codes.application":    "/intp/marketcode/*",
	"codes.unfinished":     "/intp/marketcode/applycodedownload /intp/marketcode/codeactive",
	"codes.range":          "/intp/marketcode/applycodedownload /intp/marketcode/codeactive",
	"codes.range.segments": "/intp/marketcode/applycodedownload",
	"codes.range.part":     "/intp/marketcode/applycodedownload",
	"codes.key":            "/intp/marketcode/applycodedownload",
	"codes.separator":      "/intp/marketcode/applycodedownload",
	"codes.activate":       "/intp/marketcode/codeactive",
	"codes.query":          "/intp/marketcode/codeactivequery",
	"codes.ticket":         "/intp/marketcode/tickettocode",
}

// endpointsOf returns the endpoints that a behaviour concerns; ok is false if subjects has no entry for the behaviour.
func endpointsOf(id string) (names []string, ok bool) {
	for subject := id; subject != ""; {
		if key, known := subjects[subject]; known {
			return strings.Fields(key), true
		}
		subject = subject[:max(0, strings.LastIndexByte(subject, '.'))]
	}
	return nil, false
}

// meets reports whether a path from subjects matches an endpoint.
func meets(subject, path string) bool {
	family, isMany := strings.CutSuffix(subject, "*")
	return path == subject || isMany && strings.HasPrefix(path, family)
}

// everyCall stands for all endpoints.
const everyCall = "*"

// behaviourRow is a behaviour in the form that pages show.
type behaviourRow struct{ ID, Mark, Says, Evidence string }

// behaviours returns the behaviours that concern a path, or every call, least certain first; path "" selects all behaviours.
func (p *press) behaviours(l language, path string) (rows []behaviourRow) {
	for _, b := range byDoubt() {
		names, known := endpointsOf(b.ID)
		shared := slices.Contains(names, everyCall)
		matched := shared || slices.ContainsFunc(names, func(name string) bool { return meets(name, path) })
		if !known && path == "" && l.Tag == i18n.English {
			p.reportMissing("docs/docgen/behaviours.go does not say of which endpoint the behaviour %s speaks", b.ID)
		}
		if path != "" && !matched || path != "" && path != everyCall && shared {
			continue
		}
		row := behaviourRow{b.ID, l.mark(b.Evidence), l.say(b.Description()), cmp.Or(strings.Trim(b.Source+", "+b.Date, ", "), "–")}
		if l.Tag == i18n.Chinese {
			row.Evidence = cmp.Or(b.Date, "–")
		}
		rows = append(rows, row)
	}
	return rows
}

// byDoubt returns all behaviours, least certain first.
func byDoubt() []behaviour.Behaviour {
	list := slices.Clone(behaviour.All())
	slices.SortFunc(list, func(a, b behaviour.Behaviour) int {
		return cmp.Or(-cmp.Compare(slices.Index(behaviour.EvidenceLevels, a.Evidence), slices.Index(behaviour.EvidenceLevels, b.Evidence)),
			strings.Compare(a.ID, b.ID))
	})
	return list
}

func (l language) mark(m behaviour.Evidence) string { return l.says("mark." + string(m)) }

// deviationRow is a caller's action that this server accepts but the platform may reject. Refusal is the errcode under strict, or 0
// if strict delays the effect instead; if Closed is true, the action is also rejected without strict.
type deviationRow struct {
	ID, Minds, Says string
	Refusal         int
	Closed          bool
	Waits, Turns    bool
}

// turnedRow is an action that this server rejects, and treats differently if the operator switches the behaviour: with another
// errcode, or at another time if Number is 0.
type turnedRow struct {
	ID     string
	Number int
}

// behavioursPage returns the data of the page of behaviours: all behaviours, and the deviations that concern callers, most certain first.
func (p *press) behavioursPage(l language, probes []probed) any {
	page := struct {
		Behaviours []behaviourRow
		Deviations []deviationRow
		Turned     []turnedRow // Switchable behaviours that cause no deviations of callers.
		Probes     []probed
	}{Behaviours: p.behaviours(l, ""), Probes: probes}
	list := slices.Clone(behaviour.Deviations())
	slices.SortStableFunc(list, func(a, b behaviour.Deviation) int {
		return cmp.Compare(slices.Index(behaviour.EvidenceLevels, a.Minds), slices.Index(behaviour.EvidenceLevels, b.Minds))
	})
	for _, d := range list {
		page.Deviations = append(page.Deviations, deviationRow{d.Row.String(), l.mark(d.Minds), l.say(d.Advice()),
			d.Refusal, d.Closed(), d.Waits(), d.Changeable()})
	}
	for _, b := range behaviour.All() {
		row, _ := behaviour.ByID(b.ID)
		if number, turns := row.Rejection(); turns {
			if _, deviates := row.Deviation(); !deviates {
				page.Turned = append(page.Turned, turnedRow{b.ID, number})
			}
		}
	}
	return page
}

// countMarks returns the number of behaviours for each evidence level, and the number of observed behaviours with old evidence.
func countMarks() any {
	var n struct{ All, Seen, Old, Page, Inferred, Choice int }
	for _, b := range behaviour.All() {
		n.All++
		*map[behaviour.Evidence]*int{behaviour.Observed: &n.Seen, behaviour.Documented: &n.Page, behaviour.Inferred: &n.Inferred,
			behaviour.Assumed: &n.Choice}[b.Evidence]++
		if b.Stale(behaviour.Newest()) {
			n.Old++
		}
	}
	return n
}

// everyCallPage returns the data of the page about the common part of all calls.
func (p *press) everyCallPage(l language) any {
	var page struct {
		Codes      []numberRow
		Behaviours []behaviourRow
	}
	list := sharedNumbers()
	slices.SortFunc(list, func(a, b *errcode.Code) int { return a.Number - b.Number })
	for _, code := range slices.Compact(list) {
		page.Codes = append(page.Codes, p.number(l, code))
	}
	page.Behaviours = p.behaviours(l, everyCall)
	return page
}

// searchTerms matches the error numbers and the quoted words of a sentence.
var searchTerms = regexp.MustCompile(`\b\d{5,6}\b|` + "`[^`]+`")

// Evidence returns a page for the search for newer evidence: the behaviours that have a date, oldest first, and the error numbers
// that have never been observed in a live response, each with search terms.
func Evidence() string {
	rows := slices.DeleteFunc(slices.Clone(behaviour.All()), func(b behaviour.Behaviour) bool { return b.Date == "" })
	slices.SortStableFunc(rows, func(a, b behaviour.Behaviour) int { return cmp.Compare(a.Date, b.Date) })
	var b strings.Builder
	b.WriteString("# Evidence by age\n\n| date | behaviour | mark | section | source | search for |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, row := range rows {
		says := row.Description().English()
		var terms []string
		for _, term := range searchTerms.FindAllString(says, -1) {
			if code, known := byText(term); known {
				term += " \"" + code.Text + "\""
			}
			terms = append(terms, term)
		}
		fmt.Fprintf(&b, "| %s | `%s` %s | %s | %s | %s | %s |\n", row.Date, row.ID, says, row.Evidence, row.Section, row.Source,
			cmp.Or(strings.Join(terms, ", "), strings.ReplaceAll(row.ID, ".", " ")))
	}
	b.WriteString("\n## Error numbers without a live answer\n\n| number | search for |\n| --: | --- |\n")
	for _, code := range errcode.All() {
		if code.Evidence != behaviour.Observed {
			fmt.Fprintf(&b, "| %d | \"errcode\":%d \"%s\" rid |\n", code.Number, code.Number, code.Text)
		}
	}
	return b.String()
}

// byText finds the error number in a text.
func byText(text string) (*errcode.Code, bool) {
	var number int
	if _, err := fmt.Sscan(text, &number); err != nil {
		return nil, false
	}
	return errcode.ByNumber(number)
}

// notOfferedPage lists paths of the platform that qrjump does not offer.
func (p *press) notOfferedPage(l language) any {
	type family struct {
		Is, Do string
		Paths  []unsupported.Path
	}
	var page struct {
		Paths    int
		SDKs     []string
		Families []family
	}
	for _, f := range unsupported.Families() {
		page.Families = append(page.Families, family{l.say(f.Is()), l.say(f.Do()), f.Paths})
		page.Paths += len(f.Paths)
		for _, path := range f.Paths {
			page.SDKs = append(page.SDKs, strings.Split(path.SDKs, ", ")...)
		}
	}
	slices.Sort(page.SDKs)
	page.SDKs = slices.Compact(page.SDKs)
	return page
}
