package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/cassette"
)

// mostSettling is how many calls a run makes at most.
const mostSettling = 60

type settleCommand struct {
	Upstream string        `required:"" placeholder:"URL"`
	Out      string        `required:"" placeholder:"FILE" file:"out"`
	Only     []string      `placeholder:"ROW"`
	DryRun   bool          `name:"dry-run"`
	AppID    string        `name:"appid" env:"QRJUMP_APPID" required:"" placeholder:"APPID"`
	Secret   string        `env:"QRJUMP_SECRET" required:"" placeholder:"SECRET"`
	Below    string        `default:"https://coffee.example/settle/" placeholder:"URL"`
	Page     string        `default:"pages/index/index" placeholder:"PATH"`
	Pause    time.Duration `default:"250ms" placeholder:"TIME"`
}

// question is a row of behaviour with the calls that tell which way the platform does it.
type question struct {
	row       behaviour.Row
	publishes int // of the month's quota, at most
	calls     int // without those that undo
	rules     int // that are added, each undone by a call
	ask       func(*settling) (otherwise bool, err error)
}

// questions are what can be settled, what is worth most first. Each adds rules of its own, whose names no other uses, and the run
// deletes them at its end.
var questions = []question{
	{behaviour.RulesPublishAgain, 2, 5, 1, func(s *settling) (bool, error) {
		prefix := s.add("again", "")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		before := s.number("qrcodejump_pub_quota")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		return s.number("qrcodejump_pub_quota") != before, s.err
	}},
	{behaviour.RulesEditKeeps, 0, 3, 1, func(s *settling) (bool, error) {
		prefix := s.add("links/", fmt.Sprintf(`,"debug_url":[%q]`, s.Below+"links/1"))
		s.done("qrcodejumpadd", s.body(prefix, 1, ""))
		answer := s.done("qrcodejumpget", `{"get_type":1,"prefix_list":[%q]}`, prefix)
		var list struct {
			Rules []struct {
				Links []string `json:"debug_url"`
			} `json:"rule_list"`
		}
		if err := json.Unmarshal(answer, &list); err != nil || len(list.Rules) != 1 {
			return false, errors.Join(s.err, fault("settle.not_alone", answer))
		}
		return len(list.Rules[0].Links) == 0, s.err
	}},
	{behaviour.RulesEditUnchecked, 2, 5, 1, func(s *settling) (bool, error) {
		prefix := s.add("spent", "")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		before := s.number("qrcodejump_pub_quota")
		s.done("qrcodejumpadd", "%s", s.body(prefix, 1, ""))
		return s.number("qrcodejump_pub_quota") != before, s.err
	}},
	added(behaviour.RulesPrefixCase, `{"prefix":"{Upper}case","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	added(behaviour.RulesPrefixEncoded, `{"prefix":"{below}%7Euser","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	added(behaviour.RulesPathSlash, `{"prefix":"{below}slash","path":"/{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	added(behaviour.WireNumberText, `{"prefix":"{below}text","path":"{page}","is_edit":"0","permit_sub_rule":1,"open_version":3}`),
	added(behaviour.WireNumberFloat, `{"prefix":"{below}float","path":"{page}","is_edit":0,"permit_sub_rule":1.0,"open_version":3}`),
	added(behaviour.WireListText,
		`{"prefix":"{below}one/","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3,"debug_url":"{below}one/1"}`),
	listed(behaviour.WireFieldUnknown, `{"get_type":2,"page_num":1,"page_size":1,"settle":1}`),
	added(behaviour.WireFieldNull,
		`{"prefix":"{below}null","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3,"debug_url":null}`),
	{behaviour.WireFieldQuery, 0, 1, 0, func(s *settling) (bool, error) {
		s.query = "&page_num=1"
		defer func() { s.query = "" }()
		return s.refused(behaviour.WireFieldQuery, "qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":1}`)
	}},
	{behaviour.WireBodyType, 0, 1, 0, func(s *settling) (bool, error) {
		s.contentType = "text/plain"
		defer func() { s.contentType = "" }()
		return s.refused(behaviour.WireBodyType, "qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":1}`)
	}},
	listed(behaviour.WireFieldDoubled, `{"get_type":2,"page_num":1,"page_size":1,"page_size":1}`),
}

// added asks whether an add is taken, which is refused with the row's number else.
func added(row behaviour.Row, body string) question {
	return question{row, 0, 1, 1, func(s *settling) (bool, error) {
		body := s.fill(body)
		var sent struct{ Prefix string }
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			return false, err
		}
		s.made = append(s.made, sent.Prefix)
		return s.refused(row, "qrcodejumpadd", body)
	}}
}

// listed asks whether a way to ask for the list is taken.
func listed(row behaviour.Row, body string) question {
	return question{row, 0, 1, 0, func(s *settling) (bool, error) { return s.refused(row, "qrcodejumpget", body) }}
}

// settling is a run.
type settling struct {
	*settleCommand
	ctx   context.Context
	url   string // of the recorder
	token string
	calls int
	made  []string // prefixes of rules to delete
	err   error    // of the question that is asked: its next calls are not made

	query, contentType string // of the calls of a question that asks for them; "" = as it should be
}

func (s *settling) fill(body string) string {
	host, _ := url.Parse(s.Below)
	upper := strings.Replace(s.Below, host.Host, strings.ToUpper(host.Host), 1)
	return strings.NewReplacer("{below}", s.Below, "{Upper}", upper, "{page}", s.Page).Replace(body)
}

func (s *settling) body(prefix string, edit int, more string) string {
	return fmt.Sprintf(`{"prefix":%q,"path":%q,"is_edit":%d,"permit_sub_rule":1,"open_version":3%s}`, prefix, s.Page, edit, more)
}

// call makes one call through the recorder.
func (s *settling) call(path, body string) (answer []byte, errcode int, err error) {
	if s.calls >= mostSettling {
		return nil, 0, fault("settle.most", mostSettling)
	}
	if s.calls > 0 && s.Pause > 0 {
		select {
		case <-s.ctx.Done():
			return nil, 0, s.ctx.Err()
		case <-time.After(s.Pause):
		}
	}
	s.calls++
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", cmp.Or(s.contentType, "application/json"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	var said struct{ ErrCode int }
	if err == nil {
		if err = json.Unmarshal(answer, &said); err != nil {
			err = fault("settle.no_json", resp.StatusCode, answer)
		}
	}
	return answer, said.ErrCode, err
}

// rule makes one call of the jump rules.
func (s *settling) rule(name, body string) ([]byte, int, error) {
	return s.call("/cgi-bin/wxopen/"+name+"?access_token="+url.QueryEscape(s.token)+s.query, body)
}

// done makes a call that has to be done for the question to go on.
func (s *settling) done(name, format string, args ...any) []byte {
	if s.err != nil {
		return nil
	}
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	answer, code, err := s.rule(name, format)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s answered %.200s", name, answer)
	}
	s.err = err
	return answer
}

// add adds a rule below the directory of this run.
func (s *settling) add(name, more string) (prefix string) {
	prefix = s.Below + name
	s.made = append(s.made, prefix)
	s.done("qrcodejumpadd", "%s", s.body(prefix, 0, more))
	return prefix
}

// number is a number of the list of rules.
func (s *settling) number(name string) float64 {
	var list map[string]any
	if err := json.Unmarshal(s.done("qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":1}`), &list); err != nil {
		s.err = errors.Join(s.err, err)
	}
	n, _ := list[name].(float64)
	return n
}

// refused reports whether a call is refused with the number of a row; another refusal settles nothing.
func (s *settling) refused(row behaviour.Row, name, body string) (bool, error) {
	d, _ := row.Deviation()
	answer, code, err := s.rule(name, body)
	switch {
	case err != nil:
		return false, err
	case code != 0 && code != d.Refusal:
		return false, fmt.Errorf("%s answered %.200s", name, answer)
	}
	return code != 0, nil
}

// undo deletes what the run added, or may have added where no answer came, and looks whether it is gone. A run that was broken off
// undoes it too.
func (s *settling) undo() (err error) {
	if len(s.made) == 0 {
		return nil
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
	defer end()
	s.ctx, s.err = ctx, nil
	for _, prefix := range s.made {
		if _, _, failed := s.rule("qrcodejumpdelete", fmt.Sprintf(`{"prefix":%q}`, prefix)); failed != nil {
			err = errors.Join(err, fault("settle.deleting", prefix, failed))
		}
	}
	asked, _ := json.Marshal(map[string]any{"get_type": 1, "prefix_list": s.made})
	var left struct {
		Rules []struct{ Prefix string } `json:"rule_list"`
	}
	if failed := json.Unmarshal(s.done("qrcodejumpget", "%s", asked), &left); s.err != nil || failed != nil {
		return errors.Join(err, fault("settle.left_unknown", s.Below,
			errors.Join(s.err, failed)))
	}
	for _, rule := range left.Rules {
		err = errors.Join(err, fault("settle.still_there", rule.Prefix))
	}
	return err
}

// asked are the questions of this run.
func (c *settleCommand) asked() (list []question, err error) {
	for _, name := range c.Only {
		if !slices.ContainsFunc(questions, func(q question) bool { return q.row.String() == name }) {
			return nil, misused("settle.only", name)
		}
	}
	for _, q := range questions {
		if len(c.Only) == 0 || slices.Contains(c.Only, q.row.String()) {
			list = append(list, q)
		}
	}
	return list, nil
}

// Run asks the platform what only it can say, records it and undoes it.
func (c *settleCommand) Run(s *session) (err error) {
	list, err := c.asked()
	if err != nil {
		return err
	}
	upstream, err := upstreamOf(c.Upstream)
	if err != nil {
		return err
	}
	if below, err := url.Parse(c.Below); err != nil || below.Host == "" || !strings.HasSuffix(c.Below, "/") {
		return misused("settle.below")
	}
	calls, publishes := 2, 0 // one for the token, one to see that all is undone
	for _, q := range list {
		calls += q.calls + q.rules
		publishes += q.publishes
	}
	tell(s.out, "settle.cost", counted(calls, "call"),
		counted(publishes, "publish"))
	if c.DryRun {
		for _, q := range list {
			tell(s.out, "settle.costs", q.row, counted(q.calls+q.rules, "call"), counted(q.publishes, "publish"))
		}
		return nil
	}
	out, err := newCassette(c.Out)
	if err != nil {
		return err
	}
	r := &cassette.Recorder{Upstream: upstream, Out: out, Log: slog.New(slog.NewTextHandler(s.err, nil)), Now: time.Now,
		Timeout: 30 * time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	recording := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go recording.Serve(l)
	run := &settling{settleCommand: c, ctx: s.ctx, url: "http://" + l.Addr().String()}
	err = run.all(s, list)
	err = errors.Join(err, run.undo(), recording.Close())
	_, failed := r.Lines()
	err = errors.Join(err, failed, out.Sync(), out.Close())
	tell(s.out, "settle.spent", counted(run.calls, "call"), c.Out)
	if err != nil {
		return fault("settle.settle", err)
	}
	return c.printSeen(s.out)
}

// all asks every question, and says how each came out.
func (s *settling) all(to *session, list []question) error {
	answer, _, err := s.call("/cgi-bin/stable_token",
		fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q}`, s.AppID, s.Secret))
	var token struct {
		Token string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(answer, &token)
	}
	if err != nil || token.Token == "" {
		return errors.Join(err, fault("settle.no_token", answer))
	}
	s.token = token.Token
	open := 0
	for _, q := range list {
		if err := s.ctx.Err(); err != nil {
			return fault("settle.broken_off", err)
		}
		s.err = nil
		otherwise, err := q.ask(s)
		switch {
		case err != nil:
			open++
			tell(to.out, "settle.open", q.row, plain(err.Error()))
		case otherwise:
			tell(to.out, "settle.otherwise", q.row)
		default:
			tell(to.out, "settle.as_here", q.row)
		}
	}
	if open > 0 {
		return fault("settle.open_rows", counted(open, "row"), len(list))
	}
	return nil
}

// printSeen prints the lines that docs/contract/seen takes.
func (c *settleCommand) printSeen(w io.Writer) error {
	lines, err := cassette.ReadFile(c.Out)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "qrjump-settle")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	answers := filepath.Join(folder, "answers.ndjson")
	err = errors.Join(os.WriteFile(answers, nil, 0o600), os.WriteFile(filepath.Join(folder, "differences.ndjson"), nil, 0o600))
	if err == nil {
		_, err = cassette.Keep(lines, cassette.Report{}, folder, filepath.Base(c.Out))
	}
	if err != nil {
		return err
	}
	seen, err := os.ReadFile(answers)
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(append([]byte(said("settle.seen")+"\n"), seen...)))
	}
	return err
}
