package cassette

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Kind is the kind of a difference.
type Kind string

// The kinds of differences.
const (
	Status Kind = "status"
	Header Kind = "header"
	Number Kind = "number" // the errcode
	Text   Kind = "text"   // the errmsg
	Field  Kind = "field"  // a field that only one of the two responses contains
	Type   Kind = "type"
	Order  Kind = "order"
	Value  Kind = "value"
	// Slashes means that only one of the two compared responses writes slashes as \/.
	Slashes Kind = "slashes"
)

// Difference is a part of a response that differs between this server and the platform.
type Difference struct {
	Line          int                `json:"line"`  // number of the first line with the difference
	Count         int                `json:"count"` // number of lines with the difference
	Endpoint      string             `json:"endpoint"`
	Kind          Kind               `json:"kind"`
	Location      string             `json:"location"`
	Platform      string             `json:"platform"`
	Server        string             `json:"server"`
	Behaviours    []string           `json:"behaviours"` // the behaviours that decided this server's response
	EvidenceLevel behaviour.Evidence `json:"evidence_level,omitempty"`
	Accepted      bool               `json:"accepted,omitempty"`

	causes []string // X-Qrjump-Trace headers of earlier calls that may have caused the difference
}

// Skipped is a line that was not compared, with the reason.
type Skipped struct {
	Line     int    `json:"line"`
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
}

// Report is the result of a comparison.
type Report struct {
	Calls       int          `json:"calls"`
	Compared    int          `json:"compared"`
	Differences []Difference `json:"differences"`
	Skipped     []Skipped    `json:"skipped"`
	// Rewritten lists the lines in which a JSON tool changed the escaping of slashes; Compare ignores the escaping in these lines.
	Rewritten []int `json:"rewritten,omitempty"`
}

// Unknown returns the number of differences that have not been accepted.
func (r Report) Unknown() (n int) {
	for _, d := range r.Differences {
		if !d.Accepted {
			n++
		}
	}
	return n
}

// Filter keeps only the differences of one behaviour.
func (r *Report) Filter(row string) {
	r.Differences = slices.DeleteFunc(r.Differences, func(d Difference) bool { return !slices.Contains(d.Behaviours, row) })
}

// Server is a newly started instance of this server with the accounts of a Fixture. If Token is "", the instance requires no admin token.
type Server struct {
	URL   string
	Admin string // base URL of the admin API; "" = the same as URL
	Token string
	// Reach moves the server's real-time clock forward to the given time, but never backward.
	Reach func(time.Time)
}

// emulate repeats a recorded call that changes an emulator's clock or faults; only a recording of another emulator has such a call.
func (p *player) emulate(ctx context.Context, r *Recorded) error {
	var body any
	if r.request.kind == object {
		body = json.RawMessage(p.real(r.request, r.OccurredAt).json())
	}
	p.faulty = p.faulty || strings.HasSuffix(r.Path, "/faults") && r.Method == http.MethodPost
	_, err := p.ask(ctx, r.Method, p.address(r), body)
	if _, refused := errors.AsType[refusedError](err); err != nil && !refused {
		return err
	}
	return p.skip(r, "no call of the platform")
}

// browserPages lists the pages on which an account owner authorizes a third-party platform.
var browserPages = []string{"/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"}

// noEndpoint is the reason for skipping a call to an endpoint that this server does not have.
const noEndpoint = "no endpoint of this server"

// externalErrors maps each errcode that is not compared to the reason: the errcode depends on the outside world or on calls before
// the recording.
var externalErrors = func() map[int]string {
	names := map[int]string{}
	for _, entry := range []struct {
		reason string
		codes  []*errcode.Code
	}{
		{"how many calls there were before decides it", []*errcode.Code{errcode.TooFrequent, errcode.DailyLimit, errcode.MinuteLimit,
			errcode.ClearLimit, errcode.PublishQuota, errcode.QRCodeLimit, errcode.LinkQuota, errcode.LinkLimit, errcode.PrefixLimit}},
		{"the caller's address decides it", []*errcode.Code{errcode.InvalidIP, errcode.InvalidSource, errcode.ComponentIP,
			errcode.AddressWaits, errcode.AddressOutADay, errcode.AddressOutAnHour}},
		{"a file or a record of the domain decides it",
			[]*errcode.Code{errcode.ConfirmFileFailed, errcode.ICPFailed, errcode.PrefixDenied}},
		{"the platform was busy", []*errcode.Code{errcode.SystemError, errcode.Busy}},
		{"what the platform did to the account before decides it", []*errcode.Code{errcode.SecretFrozen, errcode.APIForbidden,
			errcode.UserLimited}},
	} {
		for _, code := range entry.codes {
			names[code.Number] = entry.reason
		}
	}
	return names
}()

// contentTypeRow is the id of the behaviour for the Content-Type header of responses. An id is sufficient (no behaviour.Row is
// needed), because this package does not read the setting of the behaviour.
const contentTypeRow = "wire.answer.type"

// player replays a cassette on an instance of this server.
type player struct {
	stage  *Fixture
	server Server
	bound  map[int]string // maps a placeholder number to the value on this server
	back   map[string]int // the inverse map of bound
	madeUp map[int]bool   // placeholders whose value the player invented
	counting
	granting
	report Report
	found  map[string]int // maps the key of a difference to its index in report.Differences
	faulty bool           // the recording contains a call that sets faults, so externalErrors are compared, too
	// limited is the name of the rate limit setting that prepareRate has changed for the current call; "" = none.
	limited string
	// applied contains the isv_application_id placeholders of replayed applycode calls that had succeeded on the platform.
	applied map[int]bool
}

// Compare replays the cassette lines of stage on server and reports the differences. An error means that the server did not respond.
func Compare(ctx context.Context, stage *Fixture, server Server) (Report, error) {
	p := &player{stage: stage, server: server, bound: map[int]string{}, back: map[string]int{}, madeUp: map[int]bool{},
		counting: newCounting(),
		granting: stage.granting(), found: map[string]int{}, applied: map[int]bool{},
		report: Report{Calls: len(stage.lines), Differences: []Difference{}, Skipped: []Skipped{}}}
	slices.SortFunc(stage.early, func(a, b earlyToken) int { return a.at.Compare(b.at) })
	for _, token := range stage.early {
		server.Reach(token.at)
		if _, err := p.send(ctx, token.line); err != nil {
			return p.report, fmt.Errorf("line %d, %s: %w", token.line.Number, token.line.Path, err)
		}
	}
	for i := range stage.lines {
		if err := p.play(ctx, &stage.lines[i]); err != nil {
			return p.report, fmt.Errorf("line %d, %s: %w", stage.lines[i].Number, stage.lines[i].Path, err)
		}
	}
	return p.report, nil
}

// skip adds a line to the report as not compared, with the reason.
func (p *player) skip(r *Recorded, reason string) error {
	p.forget(r)
	p.report.Skipped = append(p.report.Skipped, Skipped{r.Number, r.Path, reason})
	return nil
}

// play sends one line's request and compares the responses.
func (p *player) play(ctx context.Context, r *Recorded) error {
	p.server.Reach(r.OccurredAt)
	switch reason, decided := externalErrors[r.number()]; {
	case r.Error != "":
		return p.skip(r, "there is no whole answer: "+r.Error)
	case r.Path == "/admin/v1/emulator/clock" || r.Path == "/admin/v1/emulator/faults":
		return p.emulate(ctx, r)
	case strings.HasPrefix(r.Path, "/admin/"), strings.HasPrefix(r.Path, "/scan/"):
		return p.skip(r, "no call of the platform")
	case slices.Contains(browserPages, r.Path):
		return p.skip(r, "a page for a person's browser")
	case r.answer.kind == object && decided && !p.faulty:
		if p.stage.done[r.Number] {
			missing, err := p.prepare(ctx, r)
			if err != nil {
				return err
			}
			if missing != "" {
				return p.skip(r, missing)
			}
			if _, err := p.send(ctx, r); err != nil {
				return err
			}
		}
		return p.skip(r, reason)
	case r.query.longest() > longestStandIn || r.request.longest() > longestStandIn:
		return p.skip(r, fmt.Sprintf("it sent a value of more than %d characters", longestStandIn))
	}
	missing, err := p.prepare(ctx, r)
	if err != nil {
		return err
	}
	if missing != "" {
		return p.skip(r, missing)
	}
	said := p.quotable(r)
	got, err := p.send(ctx, r)
	if err := errors.Join(err, p.endRate(ctx)); err != nil {
		return err
	}
	if got.number() == errcode.InvalidURL.Number && r.number() != errcode.InvalidURL.Number {
		return p.skip(r, noEndpoint)
	}
	p.report.Compared++
	if r.rewritten {
		p.report.Rewritten = append(p.report.Rewritten, r.Number)
	}
	if r.Path == marketcodePath+"applycode" && r.worked() {
		p.applied[asStandIn(r.recorded("isv_application_id")).n] = true
	}
	c := &comparison{player: p, line: r, names: said}
	c.all(got)
	if err := p.add(ctx, r, got, c.differences); err != nil {
		return err
	}
	p.spend(r, got)
	return nil
}

// answered is the response of this server.
type answered struct {
	status  int
	header  http.Header
	raw     []byte
	value   value
	isValue bool
}

func (a answered) number() int {
	n, _ := a.value.field("errcode").int()
	return n
}

// valueOf returns the value of a placeholder on this server, and invents a value if none is known yet.
func (p *player) valueOf(m mark, t time.Time) string {
	value, known := p.bound[m.n]
	if !known {
		small := m
		small.capitals = false
		value = small.standIn(t)
		p.bind(m.n, value)
		p.madeUp[m.n] = true
	}
	if m.capitals {
		return strings.ToUpper(value)
	}
	return value
}

// bind binds placeholder n to its value on this server; false = n already has another value, or another placeholder has this value.
func (p *player) bind(n int, value string) bool {
	if previous, known := p.bound[n]; known {
		return previous == value
	}
	if second, known := p.back[value]; known && second != n {
		return false
	}
	p.bound[n], p.back[value] = value, n
	return true
}

// isBound reports whether a placeholder has a value on this server.
func (p *player) isBound(m mark) bool {
	_, known := p.bound[m.n]
	return known
}

func (p *player) text(masked string, t time.Time) string {
	return expand(masked, func(m mark) string { return p.valueOf(m, t) })
}

// real replaces the placeholders in a masked value with their values on this server.
func (p *player) real(v value, t time.Time) value {
	if v.kind == text {
		if m, ok := wholeMark(v.text); ok && m.number {
			return value{kind: number, text: p.valueOf(m, t)}
		}
		return value{kind: text, text: p.text(v.text, t), escaped: v.escaped}
	}
	fullVal := value{kind: v.kind, text: v.text}
	for _, name := range v.names {
		fullVal.names = append(fullVal.names, p.text(name, t))
	}
	for _, item := range v.items {
		fullVal.items = append(fullVal.items, p.real(item, t))
	}
	return fullVal
}

// quotable returns the request values that the local response may quote; callMask.quotable selects the values, as in a recording.
func (p *player) quotable(r *Recorded) []string {
	c := &callMask{Mask: &Mask{}}
	for _, v := range []value{r.query, r.request} {
		for t := range v.texts {
			if m, ok := wholeMark(t.text); ok && !m.number {
				c.quotable(p.valueOf(m, r.OccurredAt))
			}
		}
	}
	return c.said
}

// address returns the path and the query of a line; the values on this server replace the placeholders.
func (p *player) address(r *Recorded) string {
	address, query := (&url.URL{Path: p.text(r.Path, r.OccurredAt)}).EscapedPath(), p.real(r.query, r.OccurredAt)
	for i, name := range query.names {
		address += string("?&"[min(i, 1)]) + url.QueryEscape(name) + "=" + url.QueryEscape(query.items[i].text)
	}
	return address
}

func (p *player) send(ctx context.Context, r *Recorded) (answered, error) {
	var body []byte
	if r.rawKind != "" {
		body = asStandIn(r.request).rawBody()
	} else if r.request.kind != absent {
		body = p.real(r.request, r.OccurredAt).json()
	}
	header := http.Header{}
	if r.Type != "" {
		header.Set("Content-Type", p.text(r.Type, r.OccurredAt))
	}
	return exchange(ctx, r.Method, p.server.URL+p.address(r), body, header)
}

func exchange(ctx context.Context, method, address string, body []byte, header http.Header) (answered, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return answered{}, err
	}
	req.Header = header
	resp, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	a := answered{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		return answered{}, err
	}
	v, err := parseValue(a.raw)
	a.value, a.isValue = v, err == nil && (v.kind == object || v.kind == list)
	return a, nil
}

// ask makes a call to this server's admin or scan API.
func (p *player) ask(ctx context.Context, method, path string, body any) (value, error) {
	var send []byte
	if body != nil {
		var err error
		if send, err = json.Marshal(body); err != nil {
			return value{}, err
		}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if p.server.Token != "" {
		header.Set("Authorization", "Bearer "+p.server.Token)
	}
	a, err := exchange(ctx, method, cmp.Or(p.server.Admin, p.server.URL)+path, send, header)
	if err != nil {
		return value{}, err
	}
	if a.status/100 != 2 {
		return value{}, refusedError{fmt.Sprintf("%s %s: %d %.200s", method, path, a.status, a.raw)}
	}
	return a.value, nil
}

// refusedError is the error if this server rejects a call that the player makes outside the comparison.
type refusedError struct{ text string }

func (e refusedError) Error() string { return e.text }

// add records the differences of a line, attributed to the behaviours that decided this server's response.
func (p *player) add(ctx context.Context, r *Recorded, got answered, list []Difference) error {
	if len(list) == 0 {
		return nil
	}
	ofCall, err := p.rows(ctx, got.header.Get("X-Qrjump-Trace"))
	if err != nil {
		return err
	}
	for _, d := range list {
		rows := slices.Clone(ofCall)
		for _, reason := range d.causes {
			moreNames, err := p.rows(ctx, reason)
			if err != nil {
				return err
			}
			rows = append(rows, moreNames...)
		}
		slices.Sort(rows)
		rows = slices.Compact(rows)
		names := rows
		// The behaviours about counters come first: they are the most likely causes of a difference between counters.
		if d.causes != nil && slices.ContainsFunc(rows, aboutCounter) {
			names = slices.DeleteFunc(slices.Clone(rows), func(id string) bool { return !aboutCounter(id) })
			rows = append(slices.Clone(names), slices.DeleteFunc(slices.Clone(rows), aboutCounter)...)
		}
		d.Line, d.Count, d.Endpoint, d.Behaviours = r.Number, 1, r.Path, append([]string{}, rows...)
		if d.Kind == Header {
			d.Endpoint, d.Behaviours = "", []string{} // a difference in a header applies to all endpoints
			if d.Location == "Content-Type" {
				d.Behaviours = []string{contentTypeRow}
			}
		}
		if d.EvidenceLevel = lowestLevel(d.Behaviours); d.Kind != Header {
			d.EvidenceLevel = lowestLevel(names)
		}
		d.Accepted = slices.ContainsFunc(d.Behaviours, func(id string) bool { return slices.Contains(r.Accepted, id) })
		key := fmt.Sprint(d.Endpoint, "\n", d.Kind, "\n", d.Location, "\n", d.Platform, "\n", d.Server, "\n", d.Behaviours, "\n",
			d.Accepted)
		if pos, met := p.found[key]; met {
			p.report.Differences[pos].Count++
			continue
		}
		p.found[key] = len(p.report.Differences)
		p.report.Differences = append(p.report.Differences, d)
	}
	return nil
}

// rows returns the behaviours that decided a response of this server; reason is the X-Qrjump-Trace header of the response.
func (p *player) rows(ctx context.Context, reason string) (rows []string, err error) {
	if reason == "" {
		return nil, nil
	}
	call, err := p.ask(ctx, http.MethodGet, reason, nil)
	if _, refused := errors.AsType[refusedError](err); err != nil && !refused {
		return nil, err
	}
	for _, row := range call.field("behaviours").items {
		rows = append(rows, row.text)
	}
	return rows, nil
}

// lowestLevel returns the lowest evidence level among some behaviours; "" if there are none.
func lowestLevel(ids []string) (mark behaviour.Evidence) {
	for _, id := range ids {
		if row, ok := behaviour.ByID(id); ok && (mark == "" || mark.Surer(row.Get().Evidence)) {
			mark = row.Get().Evidence
		}
	}
	return mark
}
