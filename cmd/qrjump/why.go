package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/errortext"
)

type whyCommand struct {
	operator
	Subject string `arg:"" placeholder:"SUBJECT"`
}

// explanation states why a subject is as it is. One of the fields with pointers is set; the JSON of a call has its fields beside kind.
type explanation struct {
	*client.Call
	Kind     string              `json:"kind"` // call, link, code, alarm or delivery
	Reason   string              `json:"reason"`
	Fix      string              `json:"fix,omitempty"` // command that fixes the problem, or handles the alarm; "" = none
	Link     *client.Explanation `json:"link,omitempty"`
	Code     *client.StoredCode  `json:"code,omitempty"`
	Alarm    *client.Alarm       `json:"alarm,omitempty"`
	Delivery *client.Delivery    `json:"delivery,omitempty"`
}

var (
	ridPattern     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)
	numberedObject = regexp.MustCompile(`^(alarm:|delivery:)?([0-9]{1,18})$`)
)

// Run explains a call, a link, a code, an alarm or a delivery of a webhook, and names the command that fixes the problem.
func (c *whyCommand) Run(s *session, qrjump *client.Client) error {
	e, err := c.explain(s, qrjump, strings.TrimSpace(c.Subject))
	return c.print(s, e, wrapped("why.why", plain(c.Subject), err), func(w io.Writer) {
		e.print(s, w)
		shown := textIf(e.Call == nil, e.Reason) // the facts of a call contain the reason
		printFields(w, [2]string{"reason", shown}, [2]string{"fix", e.Fix})
	})
}

func (c *whyCommand) explain(s *session, qrjump *client.Client, subject string) (explanation, error) {
	if ridPattern.MatchString(subject) {
		return explainCall(s, qrjump, subject)
	}
	name := client.ParseCodeName(subject)
	if m := numberedObject.FindStringSubmatch(subject); m != nil {
		id, _ := strconv.ParseInt(m[2], 10, 64) // 18 digits fit
		if e, err := explainNumber(s, qrjump, m[1], id); err != nil || e.Kind != "" {
			return e, err
		}
		if name.Code == "" {
			return explanation{}, absent(fault("why.no_such_number"))
		}
	}
	code, err := qrjump.Codes.Get(s.ctx, name)
	if err == nil {
		return explainCode(code), nil
	}
	if name.URL == "" || !isNotFound(err) && !isProblem(err, http.StatusUnprocessableEntity) {
		return explanation{}, err
	}
	return c.explainLink(s, subject)
}

// print prints the facts to which the reason refers.
func (e explanation) print(s *session, w io.Writer) {
	switch {
	case e.Call != nil:
		printCall(s, w, *e.Call)
	case e.Link != nil:
		printFields(w, opens(e.Link.Decision)[:1]...)
		if e.Link.Reason == "" && len(e.Link.Steps) > 0 {
			printSteps(w, s.reader, e.Link.Steps)
		}
	case e.Code != nil:
		printCode(w, *e.Code)
	case e.Alarm != nil:
		a := *e.Alarm
		printFields(w, [2]string{"alarm", number(a.ID)}, [2]string{"code", a.Name()},
			[2]string{"state", localizeOr("state."+a.State, a.State)}, [2]string{"raised", formatTime(a.OccurredAt)},
			[2]string{"score", number(a.Score)})
	case e.Delivery != nil:
		d := *e.Delivery
		printFields(w, [2]string{"delivery", number(d.ID)}, [2]string{"webhook", number(d.Webhook)},
			[2]string{"state", localizeOr("state."+d.State, d.State)}, [2]string{"attempts", strconv.Itoa(d.Attempts)})
	}
}

func explainCall(s *session, qrjump *client.Client, rid string) (explanation, error) {
	call, err := qrjump.Calls.Get(s.ctx, rid)
	e := explanation{Kind: "call", Reason: errortext.In(outputLanguage.language(), call.Detail), Call: &call}
	if code, known := errcode.ByNumber(call.ErrCode); known {
		e.Reason = cmp.Or(e.Reason, s.msg(code.Meaning()))
		if call.ErrCode != 0 && call.ErrCode != errcode.InvalidURL.Number { // printNotOffered names the next step for an unknown path
			e.Fix = s.msg(code.Cure())
		}
	}
	if len(call.Deviations) > 0 {
		e.Fix = "qrjump deviations"
	}
	return e, err
}

// printCall prints a call, why the server responded as it did, and how certain it is that the platform behaves in the same way.
func printCall(s *session, w io.Writer, call client.Call) {
	printMsg(w, "why.of", formatTime(call.OccurredAt), plain(call.Endpoint), plain(orDash(call.Account)))
	if call.Request != "" {
		printMsg(w, "why.sent", plain(call.Request))
	}
	printMsg(w, "why.answered", plain(call.Response))
	if call.Detail != "" {
		printMsg(w, "why.because", plain(errortext.In(outputLanguage.language(), call.Detail)))
	}
	printNotOffered(w, s.reader, call)
	for _, row := range call.Rows {
		printMsg(w, "why.behaviour", plain(row.ID), evidenceText(row), plain(s.inLanguage(row.English, row.Chinese)))
	}
	for _, id := range call.Deviations {
		printMsg(w, "why.deviation_qrjump_deviations_says_what", plain(id))
	}
}

// explainNumber explains the alarm, or else the delivery, with an ID; kind "alarm:" or "delivery:" selects one of them. Without such an
// object, the explanation is empty.
func explainNumber(s *session, qrjump *client.Client, kind string, id int64) (explanation, error) {
	if kind != "delivery:" {
		list, err := qrjump.Alarms.List(s.ctx, client.AlarmQuery{After: max(id-1, 0), Limit: 1})
		if err != nil || len(list) > 0 && list[0].ID == id {
			return explainAlarm(s, list), err
		}
	}
	if kind != "alarm:" {
		list, err := qrjump.Webhooks.ListDeliveries(s.ctx, client.DeliveryQuery{Before: id + 1, Limit: 1})
		if err != nil || len(list) > 0 && list[0].ID == id {
			return explainDelivery(list), err
		}
	}
	return explanation{}, nil
}

func explainAlarm(s *session, list []client.Alarm) (e explanation) {
	for _, a := range list {
		e = explanation{Kind: "alarm", Reason: reason(s.reader, a), Alarm: &a}
		switch a.State {
		case "suspicious":
			e.Fix = fmt.Sprintf("qrjump stats alarms --confirm %d", a.ID)
		case "dismissed":
			e.Reason += " " + tr("why.dismissed", plain(a.DismissedBy), plain(a.Note))
		}
	}
	return e
}

func explainDelivery(list []client.Delivery) (e explanation) {
	for _, d := range list {
		e = explanation{Kind: "delivery", Reason: tr("why." + d.State), Delivery: &d}
		if d.Error != "" && d.State != "delivered" {
			e.Reason += ": " + d.Error
		}
		if d.State == "failed" {
			e.Fix = "qrjump api replayDelivery id=" + number(d.ID)
		}
	}
	return e
}

// explainCode states the first reason for which a code opens nothing.
func explainCode(code client.StoredCode) explanation {
	e := explanation{Kind: "code", Code: &code}
	key, command := "why.code_opens", ""
	switch name := shellWords(number(code.ApplicationID), strconv.FormatInt(code.CodeIndex, 10)); {
	case code.Void:
		key = "why.code_void"
	case code.Frozen:
		key, command = "why.code_frozen", "qrjump code unfreeze "+name
	case !code.Active:
		key, command = "why.code_inactive", "qrjump batch activate "+name+" --activity NAME --brand NAME --title TITLE "+
			"--product-code CODE --target APPID --path PAGE"
	case len(code.Alarms) > 0:
		key, command = "why.code_alarm", fmt.Sprintf("qrjump why alarm:%d", code.Alarms[0].ID)
	case code.Redeemed:
		key = "why.code_redeemed"
	}
	e.Reason, e.Fix = tr(key), command
	return e
}

// explainLink states what the scan of a text opens, and why; the nearest rule determines the command that fixes the problem.
func (c *whyCommand) explainLink(s *session, text string) (explanation, error) {
	loc, err := c.scan("")
	if err != nil {
		return explanation{}, err
	}
	token, err := c.token(c.adminFlags, loc.url)
	if err != nil {
		return explanation{}, err
	}
	scanner, err := c.connect(loc, client.Options{ScanKey: token})
	if err != nil {
		return explanation{}, err
	}
	found, err := scanner.Scans.Explain(s.ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: text}})
	e := explanation{Kind: "link", Link: &found}
	if found.Reason != "" { // the text of a code
		e.Kind, e.Reason = "code", localizeOr("why."+found.Reason, found.Message)
		return e, err
	}
	if m := found.Matched; m != nil && m.Kind == "gs1" {
		e.Reason = tr("why.gs1", m.Prefix)
		return e, err
	}
	e.Reason = strings.TrimSpace(tr("scan.no_related_rules"))
	decisive := slices.IndexFunc(found.Steps, func(step client.Step) bool {
		return found.Action != client.OpenMiniProgram || step.Verdict == "opens"
	})
	if decisive >= 0 {
		step := found.Steps[decisive]
		e.Reason = s.inLanguage(step.English, step.Chinese)
		publish := "qrjump rule publish " + shellWord(step.Prefix)
		e.Fix = map[string]string{"unpublished": publish, "unpublished_hides": publish,
			"owner_switched_off": "qrjump account set " + shellWord(step.Owner) + " --rules"}[step.Verdict]
	}
	if e.Fix == "" && found.Action == client.OpenURL {
		e.Fix = "qrjump rule add " + shellWords(text, "PAGE") + " --publish"
	}
	return e, err
}
