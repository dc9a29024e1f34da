package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// filter returns the URL query parameters that select calls.
func (pages callPages) filter(v *request) url.Values {
	q, wanted := v.r.URL.Query(), url.Values{}
	for _, name := range []string{"account", "path", "errcode", "rid", "failed"} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			wanted.Set(name, text)
		}
	}
	return wanted
}

// callQuery returns the filter as an admin API query.
func (pages callPages) callQuery(v *request) (q client.CallQuery, err error) {
	wanted := pages.filter(v)
	errcode, err := v.number("errcode")
	return client.CallQuery{RID: wanted.Get("rid"), Account: wanted.Get("account"), Path: wanted.Get("path"), ErrCode: int(errcode),
		Failed: wanted.Get("failed") == "true"}, err
}

type callsView struct {
	Page   client.CallPage
	Filter url.Values
	Live   string // the address of the event stream; "" = none
	Groups []client.CallError
	Wire   string
	Clock  client.Clock
	// Kept describes how much of the stored log was searched; it is empty if the calls do not come from the stored log.
	Kept     client.SearchRange
	Accounts []string // choices for a visitor who is limited to several accounts and must choose an account
}

// endpointOf returns the URL path of a call.
func endpointOf(c client.RecordedCall) string { p, _, _ := strings.Cut(c.URL, "?"); return p }

func (pages callPages) calls(v *request) error {
	if rid := strings.TrimSpace(v.r.URL.Query().Get("open")); rid != "" {
		return v.redirect(Root + "/calls/" + url.PathEscape(rid))
	}
	data := callsView{Filter: pages.filter(v), Wire: v.c.Wire()}
	grouping := v.r.URL.Query().Get("view") == "errors"
	if !v.c.Emulates {
		return pages.keptCalls(v, data, grouping)
	}
	query, wrong := pages.callQuery(v)
	query.Limit = 100
	if grouping {
		query.Limit, query.Failed = 1000, true
	}
	if err := cmp.Or(wrong, storeResult(&data.Page)(v.api.Calls.List(v.ctx(), query)),
		storeResult(&data.Clock)(v.api.Emulator.GetClock(v.ctx()))); err != nil {
		return err
	}
	wanted := url.Values{"after": {data.Page.Next}}
	maps.Copy(wanted, data.Filter)
	data.Live = Root + "/calls/live?" + wanted.Encode()
	if grouping {
		groups := map[string]*client.CallError{}
		for _, call := range data.Page.Calls { // newest first
			key := fmt.Sprint(endpointOf(call), " ", call.ErrCode)
			if groups[key] == nil {
				groups[key] = &client.CallError{Endpoint: endpointOf(call), ErrCode: call.ErrCode, LastRID: call.RID,
					LastAt: call.OccurredAt, Detail: call.Detail}
			}
			groups[key].Count++
		}
		for _, g := range groups {
			data.Groups = append(data.Groups, *g)
		}
		slices.SortFunc(data.Groups, func(a, b client.CallError) int {
			return cmp.Or(b.Count-a.Count, strings.Compare(a.Endpoint, b.Endpoint), a.ErrCode-b.ErrCode)
		})
	}
	return v.show(http.StatusOK, "calls", data)
}

// keptCalls shows calls from the stored log, on a server that holds no calls in memory.
func (pages callPages) keptCalls(v *request, data callsView, grouping bool) error {
	if !adminroute.Role(v.caller.Role).AtLeast(adminroute.Operator) {
		return v.show(http.StatusOK, "calls", data)
	}
	if appids := v.caller.Accounts; len(appids) > 0 && data.Filter.Get("account") == "" {
		if len(appids) > 1 {
			data.Accounts = appids
			return v.show(http.StatusOK, "calls", data)
		}
		data.Filter.Set("account", appids[0])
	}
	q, err := pages.callQuery(v)
	q.Account = data.Filter.Get("account")
	prev, wrong := v.number("before")
	if err := cmp.Or(err, wrong); err != nil {
		return err
	}
	if prev != 0 {
		data.Filter.Set("before", strconv.FormatInt(prev, 10))
	}
	if grouping {
		list, err := v.api.Calls.ListErrors(v.ctx(), q.Account, q.Path, q.ErrCode, prev)
		data.Kept, data.Groups = list.SearchRange, list.Errors
		return v.page("calls", data, err)
	}
	list, err := v.api.Calls.ListPersisted(v.ctx(), client.CallLogQuery{RID: q.RID, Failed: q.Failed,
		CallSearch: client.CallSearch{Account: q.Account, Path: q.Path, ErrCode: q.ErrCode, Before: prev}})
	data.Kept = list.SearchRange
	for _, call := range list.Calls {
		data.Page.Calls = append(data.Page.Calls, client.RecordedCall{RID: call.RID, OccurredAt: call.OccurredAt, Account: call.Account,
			URL: call.Endpoint, ErrCode: call.ErrCode, Detail: call.Detail, Duration: call.Duration})
	}
	return v.page("calls", data, err)
}

const (
	// maxStreams is the maximum number of open streams.
	maxStreams = 100
	// lookEvery is the polling interval of a stream and limits how often a page changes.
	lookEvery = 300 * time.Millisecond
	// pingEvery is the interval of keep-alive messages on an idle stream. On each keep-alive, and before sending rows, the stream
	// checks that the session has not ended.
	pingEvery = 15 * time.Second
	// streamWrite is the write timeout for one write to a stream. A slower client is disconnected and can reconnect with the id of
	// the last row that it received.
	streamWrite = 10 * time.Second
)

// live streams new calls as server-sent events.
func (pages callPages) live(v *request) error {
	wanted, err := pages.callQuery(v)
	wanted.Limit = 50
	if err != nil {
		return err
	}
	defer v.c.streams.Add(-1)
	if v.c.streams.Add(1) > maxStreams {
		http.Error(v.w, "too many pages are live: close some", http.StatusServiceUnavailable)
		return nil
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Time{})
	wanted.After = cmp.Or(v.r.Header.Get("Last-Event-ID"), v.r.URL.Query().Get("after"))
	if !pages.send(v, "retry: 2000\n: live\n\n") {
		return nil
	}
	tick, sent := time.NewTicker(lookEvery), time.Now()
	defer tick.Stop()
	for {
		select {
		case <-v.r.Context().Done():
			return nil
		case <-tick.C:
		}
		page, err := v.api.Calls.List(v.ctx(), wanted)
		if err != nil || v.c.Stopping() {
			return nil
		}
		wanted.After = page.Next
		if len(page.Calls) == 0 && time.Since(sent) < pingEvery {
			continue
		}
		// A busy stream sends no keep-alives, so streamEnded checks the session and the current permissions before every event.
		if pages.streamEnded(v) {
			return nil
		}
		text := ": still here\n\n"
		if len(page.Calls) > 0 {
			text, err = callsEvent(v, page)
		}
		sent = time.Now()
		if err != nil || !pages.send(v, text) {
			return nil
		}
	}
}

// streamEnded reports whether the session of a live page has ended, and notifies the page if so.
func (pages callPages) streamEnded(v *request) bool {
	caller, err := v.c.callerOf(v.r, v.c.People.ValidateSession)
	if err != nil {
		pages.send(v, "event: over\ndata: {}\n\n")
	}
	v.caller = caller
	return err != nil
}

// send writes a part of a stream and reports whether the write succeeded.
func (pages callPages) send(v *request, text string) bool {
	control := http.NewResponseController(v.w)
	_ = control.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := v.w.Write([]byte(text)); err != nil {
		return false
	}
	return control.Flush() == nil
}

// callsEvent returns a server-sent event with the given calls, newest first.
func callsEvent(v *request, page client.CallPage) (string, error) {
	slices.Reverse(page.Calls)
	shown := &view{request: v, Name: "calls", Data: callsView{Page: page}, SignedIn: true}
	var rows bytes.Buffer
	if err := templates()["calls"].ExecuteTemplate(&rows, "rows", shown); err != nil {
		return "", err
	}
	said, err := json.Marshal(map[string]any{"html": rows.String(), "count": len(page.Calls)})
	return "id: " + page.Next + "\nevent: calls\ndata: " + string(said) + "\n\n", err
}

type callView struct {
	client.Call
	Curl  string
	Again bool
	Fault bool
}

func (pages callPages) call(v *request) error {
	rid, har := strings.CutSuffix(v.r.PathValue("rid"), ".har")
	data := callView{}
	if err := storeResult(&data.Call)(v.api.Calls.Get(v.ctx(), rid)); err != nil {
		return err
	}
	if har {
		v.attachment("application/json", data.RID+".har")
		_ = json.NewEncoder(v.w).Encode(v.c.har(data.Call)) // an error means that the browser has disconnected
		return nil
	}
	data.Curl = v.c.curl(data.Call)
	data.Again, data.Fault = v.c.Again != nil && data.Account != "" && !strings.Contains(data.Request, "[masked]"), v.c.Emulates
	return v.show(http.StatusOK, "call", data)
}

// quoted returns a text as a single quoted shell word. Control characters are escaped, because a pasted control character could end
// the paste and start a command.
func quoted(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, r := range text {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case unicode.IsControl(r):
			for _, n := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%03o`, n)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + "'"
}

func (c *Console) address(call client.Call) string {
	to := c.Wire() + call.Endpoint
	if call.Query != "" {
		to += "?" + call.Query
	}
	return to
}

// curl returns a curl command line that repeats a call. A masked token is replaced with a shell variable. The command does not use -d,
// because curl would read a local file if a client's body begins with @.
func (c *Console) curl(call client.Call) string {
	to := strings.ReplaceAll(quoted(c.address(call)), "%5Bmasked%5D", `'"$TOKEN"'`)
	if call.Request == "" {
		return "curl -s " + to
	}
	return "curl -s " + to + " -H 'Content-Type: application/json' --data-raw " + quoted(call.Request)
}

// har returns a call in HTTP Archive (HAR) format, version 1.2.
func (c *Console) har(call client.Call) any {
	method := "POST"
	request := map[string]any{"url": c.address(call), "httpVersion": "HTTP/1.1", "cookies": []any{}, "headers": []any{},
		"queryString": []any{}, "headersSize": -1, "bodySize": len(call.Request)}
	if call.Request == "" {
		method = "GET"
	} else {
		request["postData"] = map[string]any{"mimeType": "application/json", "text": call.Request}
	}
	request["method"] = method
	took := float64(call.Duration) / 1e6
	return map[string]any{"log": map[string]any{"version": "1.2", "creator": map[string]any{"name": "qrjump", "version": c.Version},
		"entries": []any{map[string]any{"startedDateTime": call.OccurredAt.Format(time.RFC3339Nano), "time": took, "request": request,
			"response": map[string]any{"status": 200, "statusText": "OK", "httpVersion": "HTTP/1.1", "cookies": []any{}, "headers": []any{},
				"content":     map[string]any{"size": len(call.Response), "mimeType": "application/json", "text": call.Response},
				"redirectURL": "", "headersSize": -1, "bodySize": len(call.Response)},
			"cache": map[string]any{}, "timings": map[string]any{"send": 0, "wait": took, "receive": 0}, "comment": call.RID}}}}
}

// repeatCall repeats a call, unchanged or edited, or makes the next call to its path fail with the same error.
func (pages callPages) repeatCall(v *request) error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 4<<20)
	oldCall, err := v.api.Calls.Get(v.ctx(), v.r.PathValue("rid"))
	if err != nil {
		return err
	}
	if v.r.FormValue("did") == "fault" {
		return v.done(Root+"/calls/"+url.PathEscape(oldCall.RID)+"?done=fault", v.api.Emulator.CreateFault(v.ctx(),
			client.Fault{Path: oldCall.Endpoint, ErrCode: oldCall.ErrCode, AppID: oldCall.Account, Remaining: new(1)}))
	}
	if v.c.Again == nil || v.caller.Role != "admin" {
		return v.fail(http.StatusForbidden, v.say("call.again.dev"))
	}
	query, err := url.ParseQuery(oldCall.Query)
	if err != nil {
		return err
	}
	query.Del("access_token")
	rid, err := v.c.Again(v.r.Context(), oldCall.Account, oldCall.Endpoint, query.Encode(), v.r.FormValue("body"))
	return v.done(Root+"/calls/"+url.PathEscape(rid)+"?done=again", err)
}

type deviationsView struct {
	Account    string
	Deviations []client.Deviation
	Coverage   client.Coverage
}

// deviations lists deviations: behaviour of callers that the real platform may reject.
func (pages callPages) deviations(v *request) error {
	data := deviationsView{Account: v.narrowed("account")}
	err := cmp.Or(storeResult(&data.Deviations)(v.api.Deviations.List(v.ctx(), data.Account)),
		storeResult(&data.Coverage)(v.api.Deviations.GetCoverage(v.ctx(), data.Account)))
	return v.page("deviations", data, err)
}

// forgetDeviations clears the list of deviations of one account or of all.
func (pages callPages) forgetDeviations(v *request) error {
	appid, to := v.word("account"), Root+"/calls/deviations"
	if appid != "" {
		to += "?account=" + url.QueryEscape(appid)
	}
	return v.perform(to, map[string]action{"forget": {call: func() error { return onlyError(v.api.Deviations.Reset(v.ctx(), appid)) }}})
}

type behavioursView struct {
	Mark       string `json:"evidence" enum:"observed,documented,inferred,assumed"`
	Word       string
	Behaviours []client.Behaviour
}

// behaviours lists the points in which this server might differ from the platform.
func (pages callPages) behaviours(v *request) error {
	q := v.r.URL.Query()
	data := behavioursView{Mark: q.Get("evidence"), Word: strings.TrimSpace(q.Get("word"))}
	list, err := v.api.Behaviours.List(v.ctx())
	word := strings.ToLower(data.Word)
	data.Behaviours = slices.DeleteFunc(list, func(b client.Behaviour) bool {
		return data.Mark != "" && b.EvidenceLevel != data.Mark ||
			!strings.Contains(strings.ToLower(b.ID+" "+b.English+" "+b.Chinese), word)
	})
	return v.page("behaviours", data, err)
}
