package server_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/api"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// byDoubt are the rows, the least sure first.
func byDoubt() []behaviour.Behaviour {
	list := slices.Clone(behaviour.All())
	slices.SortFunc(list, func(a, b behaviour.Behaviour) int {
		return cmp.Or(-cmp.Compare(slices.Index(behaviour.Marks, a.Mark), slices.Index(behaviour.Marks, b.Mark)),
			strings.Compare(a.ID, b.ID))
	})
	return list
}

// known is a row's evidence as the pages show it.
func known(b behaviour.Behaviour) (source, date string) {
	if date = b.Date; b.Stale(behaviour.Newest()) {
		date += ", older than three years"
	}
	return b.Source, date
}

// behavioursPage is docs/reference/behaviours.md.
func behavioursPage() string {
	counts := map[behaviour.Mark]int{}
	for _, b := range behaviour.All() {
		counts[b.Mark]++
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"# What the server does, and how sure that is\n\nPrinted from `internal/behaviour` by `make update`; `GET /admin/v1/behaviours` answers the same. "+
			"A line a behaviour, the least sure first:\n%d of %d are our choice, %d are inferred, %d stand on a page of the platform, %d were seen in live answers. "+
			"The marks are those of\n[the contract](../contract/README.md). A name never changes. The log of a server has the names of those that decided a call: `behaviours=`.\n\n"+
			"| behaviour | mark | what the server does | 服务器的行为 | contract | evidence | newest |\n| --- | --- | --- | --- | --- | --- | --- |\n",
		counts[behaviour.Choice], len(behaviour.All()), counts[behaviour.Inferred], counts[behaviour.Page], counts[behaviour.Seen])
	for _, one := range byDoubt() {
		source, date := known(one)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", one.ID, one.Mark, one.English, one.Chinese, one.Section, source, date)
	}
	b.WriteString(
		"\n## What callers may stumble over\n\nThese let something pass that the platform may mind: `qrjump deviations` lists which calls did it. " +
			"The mark here says how sure it is that the platform\nminds; choice = nothing says so. With `--strict` those that are seen, page or inferred " +
			"are answered with the number; the setting `behaviours` turns single\nones, but for those without a number.\n\n" +
			"| behaviour | minds | strict answers | what to change in the caller | 调用方应如何修改 |\n| --- | --- | --- | --- | --- |\n")
	list := slices.Clone(behaviour.Deviations())
	slices.SortStableFunc(list, func(a, b behaviour.Deviation) int {
		return cmp.Compare(slices.Index(behaviour.Marks, a.Minds), slices.Index(behaviour.Marks, b.Minds))
	})
	for _, d := range list {
		number := ""
		switch {
		case d.Closed():
			number = fmt.Sprint(d.Refusal, ", also without strict, unless `behaviours` turns it loose")
		case d.Refusal != 0:
			number = fmt.Sprint(d.Refusal)
		case d.Turns():
			number = "nothing: it waits"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Row, d.Minds, number, d.English, d.Chinese)
	}
	b.WriteString("\n## What no call carries\n\nThe record of a call (`qrjump why RID`) names the behaviours that it rested on, after it succeeded, or the one that refused it. " +
		"These it never\nnames, and why:\n\n| behaviour | why |\n| --- | --- |\n")
	for _, one := range byDoubt() {
		if row, _ := behaviour.ByID(one.ID); row.Unnoted() != "" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", one.ID, row.Unnoted())
		}
	}
	return b.String()
}

// The admin API answers the whole table, and says which evidence is old by the
// server's clock.
func TestTheTableOfBehavioursIsAnswered(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Emulator: true})
	c, err := client.New(s.URL, client.Options{AdminToken: servertest.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	old := func() (ids []string) {
		list, err := c.Behaviours(t.Context())
		if err != nil || len(list) != len(behaviour.All()) {
			t.Fatalf("%d behaviours, %v", len(list), err)
		}
		for i, one := range list {
			if want := behaviour.All()[i]; one.ID != want.ID || one.Mark != string(want.Mark) || one.English != want.English ||
				one.Chinese != want.Chinese || one.Source != want.Source || one.Date != want.Date || one.Section != want.Section {
				t.Errorf("got %+v, want %+v", one, want)
			}
			if one.Old {
				ids = append(ids, one.ID)
			}
		}
		return ids
	}
	before := old()
	s.Admin("PUT", "/emulator/clock", `{"now":"2040-01-01T00:00:00Z"}`)
	if after := old(); len(after) <= len(before) || slices.Contains(before, "wire.method.post") ||
		!slices.Contains(after, "wire.method.post") {
		t.Errorf("old in 2026: %q, in 2040: %q", before, after)
	}
}

// subjects are the endpoints of which rows speak, by the beginning of their ids;
// the longest beginning counts. Rows of a scan are of no endpoint of the wire.
var subjects = map[string]string{
	"wire": "*", "caller": "*", "caller.platform": "/cgi-bin/component/", "caller.wants_platform": "/cgi-bin/component/",
	"caller.personal": "/cgi-bin/wxopen/qrcodejump", "caller.kind": "/cgi-bin/wxopen/qrcodejump",
	"wire.body.component": "/cgi-bin/component/", "wire.rate.rules": "/cgi-bin/wxopen/qrcodejump", "wire.answer.comma": "/sns/",
	"wire.answer.hint": "/intp/marketcode/", "wire.number.text": "*",
	"token": "/cgi-bin/token /cgi-bin/stable_token /sns/jscode2session", "token.stable": "/cgi-bin/stable_token",
	"token.day": "/cgi-bin/token",
	"quota":     "/cgi-bin/clear_quota /cgi-bin/component/clear_quota /cgi-bin/openapi/quota/", "quota.path": "/cgi-bin/openapi/quota/",
	"rid": "/cgi-bin/openapi/rid/get", "login": "/sns/",
	"component.ticket": "/cgi-bin/component/api_component_token", "component.day": "/cgi-bin/component/api_component_token",
	"component.code": "/cgi-bin/component/api_query_auth", "component.refresh": "/cgi-bin/component/api_authorizer_token",
	"component.account": "/cgi-bin/component/api_authorizer_token /cgi-bin/component/api_get_authorizer_info",
	"component.list":    "/cgi-bin/component/api_get_authorizer_list", "component.reauthorized": "*",
	"component.option": "/cgi-bin/component/api_get_authorizer_option /cgi-bin/component/api_set_authorizer_option", "codes.gate": "*",
	"consent": "", "message": "", "scan": "", "codes.text": "",
	"rules.add": "/cgi-bin/wxopen/qrcodejumpadd", "rules.test_link": "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.confirm": "/cgi-bin/wxopen/qrcodejumpadd",
	"outbound":      "/cgi-bin/wxopen/qrcodejumpadd", "rules.edit": "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.prefix":         "/cgi-bin/wxopen/qrcodejumpadd",
	"rules.prefix.missing": "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumppublish /cgi-bin/wxopen/qrcodejumpdelete",
	"rules.prefix.unknown": "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumppublish /cgi-bin/wxopen/qrcodejumpdelete",
	"rules.target":         "/cgi-bin/wxopen/qrcodejumpadd /cgi-bin/wxopen/qrcodejumpget", "rules.get": "/cgi-bin/wxopen/qrcodejumpget",
	"rules.publish": "/cgi-bin/wxopen/qrcodejumppublish", "rules.delete": "/cgi-bin/wxopen/qrcodejumpdelete", "rules.undo": "",
	"link": "/cgi-bin/wxopen/wxamplink", "link.appid": "/cgi-bin/wxopen/wxamplink /cgi-bin/wxopen/wxampunlink",
	"link.end": "/cgi-bin/wxopen/wxampunlink",
	"qrcode":   "/cgi-bin/qrcode/create", "qrcode.show": "/cgi-bin/showqrcode", "qrcode.event": "", "qrcode.outlived": "",
	"codes": "/intp/marketcode/", "codes.apply": "/intp/marketcode/applycode", "codes.prefix": "/intp/marketcode/applycode",
	"codes.application": "/intp/marketcode/", "codes.unfinished": "/intp/marketcode/applycodedownload /intp/marketcode/codeactive",
	"codes.range":          "/intp/marketcode/applycodedownload /intp/marketcode/codeactive",
	"codes.range.segments": "/intp/marketcode/applycodedownload",
	"codes.range.part":     "/intp/marketcode/applycodedownload", "codes.key": "/intp/marketcode/applycodedownload",
	"codes.separator": "/intp/marketcode/applycodedownload", "codes.activate": "/intp/marketcode/codeactive",
	"codes.query": "/intp/marketcode/codeactivequery", "codes.ticket": "/intp/marketcode/tickettocode",
}

// exact are endpoints whose path is the beginning of another's.
var exact = []string{"/cgi-bin/token", "/cgi-bin/wxopen/wxamplink", "/intp/marketcode/applycode", "/intp/marketcode/codeactive",
	"/cgi-bin/wxopen/qrcodejumpadd"}

// speaksOf reports whether a row speaks of an endpoint.
func speaksOf(id, path string) bool {
	for subject := id; subject != ""; {
		if of, known := subjects[subject]; known {
			return of == "*" || slices.ContainsFunc(strings.Fields(of), func(begin string) bool {
				return path == begin || strings.HasPrefix(path, begin) && !slices.Contains(exact, begin)
			})
		}
		subject = subject[:max(0, strings.LastIndexByte(subject, '.'))]
	}
	return false
}

// coveragePage is docs/reference/coverage.md.
func coveragePage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(
		"# How sure each endpoint is\n\nPrinted from `internal/behaviour` by `make update`: every endpoint of the wire with the behaviours that are its own, the least sure first, and the date of the\n" +
			"newest evidence. What all calls share stands once, first. The sentences are in [the table](behaviours.md).\n\n| endpoint | behaviour | mark | newest evidence |\n| --- | --- | --- | --- |\n")
	common := func(id string) bool { return speaksOf(id, "*") }
	said := map[string]bool{}
	print := func(name, path string) {
		for _, one := range byDoubt() {
			if path == "*" && !common(one.ID) || path != "*" && (common(one.ID) || !speaksOf(one.ID, path)) {
				continue
			}
			_, date := known(one)
			said[one.ID] = true
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", name, one.ID, one.Mark, date)
		}
	}
	print("every call", "*")
	for _, e := range api.Describe() {
		print("`"+e.Path+"`", e.Path)
	}
	b.WriteString("\nOf no endpoint of the wire:\n\n| behaviour | mark | newest evidence |\n| --- | --- | --- |\n")
	for _, one := range byDoubt() {
		if subject, _, _ := strings.Cut(one.ID, "."); !said[one.ID] {
			if !slices.Contains([]string{"scan", "consent", "message", "qrcode", "codes", "rules"}, subject) {
				t.Errorf("%s speaks of no endpoint", one.ID)
			}
			_, date := known(one)
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", one.ID, one.Mark, date)
		}
	}
	return b.String()
}

// whatThisIsNot is docs/what-this-is-not.md.
func whatThisIsNot() string {
	counts, old := map[behaviour.Mark]int{}, 0
	for _, b := range behaviour.All() {
		counts[b.Mark]++
		if b.Stale(behaviour.Newest()) {
			old++
		}
	}
	return fmt.Sprintf(`# What this is not

qrjump is not the Weixin Open Platform, and nobody there has looked at it. It speaks the platform's wire as far as pages, published answers and
deployed libraries tell; where they are silent it does something all the same, for a server must answer. A test that passes here says that your
program is right about what is known. It cannot say that the platform agrees.

The server knows how sure it is. Of its %d behaviours:

| mark | how many | what you may conclude |
| --- | --- | --- |
| seen | %d | the platform was seen to do this, at least once; of %d the newest evidence is older than three years |
| page | %d | the platform's documentation says so |
| inferred | %d | it follows from several sources, none of which says it |
| choice | %d | nobody knows: this is ours, and the platform may differ |

- It reads no QR code that Weixin prints, and no code of ours is read by Weixin: what opens is decided by apps that ask this server.
- It does not ask whether a domain has an ICP record, whether a page exists, or who stands behind an account. The operator says so (for pages: which a
  Mini Program has), or it is taken.
- With `+"`--dev`"+` it takes more than the platform does: private hosts, ports, hosts that nobody verified. A rule that works there may be refused.
- It has the calls for rules, codes, links, platforms and parametric codes. Every other call of the platform answers 40066 here.

Which behaviours these are: [all of them, the least sure first](reference/behaviours.md), [by endpoint](reference/coverage.md). What a call of
yours rested on is in the server's log (`+"`behaviours=`"+`). What others have seen of the platform, and where ours differs: [seen](contract/seen/README.md).
If you have seen more, one more line there settles a guess.
`, len(behaviour.All()), counts[behaviour.Seen], old, counts[behaviour.Page], counts[behaviour.Inferred], counts[behaviour.Choice])
}
