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
	Refresh  bool          `name:"refresh"`

	NeighbourAppID  string `name:"neighbour-appid" env:"QRJUMP_NEIGHBOUR_APPID" placeholder:"APPID"`
	NeighbourSecret string `env:"QRJUMP_NEIGHBOUR_SECRET" placeholder:"SECRET"`
	ServiceAppID    string `name:"service-appid" env:"QRJUMP_SERVICE_APPID" placeholder:"APPID"`
	ServiceSecret   string `env:"QRJUMP_SERVICE_SECRET" placeholder:"SECRET"`
}

// want is what a question needs beside the account itself.
type want string

const (
	wantNeighbour want = "neighbour" // another Mini Program
	wantService   want = "service"   // a service account that is linked with the Mini Program
	wantRefresh   want = "refresh"   // to be told: it ends a token that the account's programs may hold
)

// has reports whether a run was given what a question needs.
func (c *settleCommand) has(w want) bool {
	switch w {
	case wantNeighbour:
		return c.NeighbourAppID != "" && c.NeighbourSecret != ""
	case wantService:
		return c.ServiceAppID != "" && c.ServiceSecret != ""
	case wantRefresh:
		return c.Refresh
	}
	return true
}

// question is a row of behaviour with the calls that tell which way the platform does it.
type question struct {
	row       behaviour.Row
	publishes int // of the month's quota, at most
	calls     int // without those that undo
	rules     int // that are added, each undone by a call
	wants     want
	ask       func(*settling) (otherwise bool, err error)
}

// costs are how many calls and publishes a run makes at most: each account has a call for its token, and one to see that all is undone.
func costs(list []question) (calls, publishes int) {
	accounts := map[want]bool{"": true}
	for _, q := range list {
		calls += q.calls + q.rules
		publishes += q.publishes
		if q.wants != wantRefresh {
			accounts[q.wants] = true
		}
	}
	return calls + 2*len(accounts), publishes
}

// questions are what can be settled, what is worth most first. Each adds rules of its own, whose names no other uses, and the run
// deletes them at its end.
var questions = []question{
	{behaviour.RulesPublishAgain, 2, 5, 1, "", func(s *settling) (bool, error) {
		prefix := s.add("again", "")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		before := s.left("")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		return s.left("") != before, s.err
	}},
	{behaviour.RulesEditUnchecked, 2, 5, 1, "", func(s *settling) (bool, error) {
		prefix := s.add("spent", "")
		s.done("qrcodejumppublish", `{"prefix":%q}`, prefix)
		before := s.left("")
		s.done("qrcodejumpadd", "%s", s.body(prefix, 1, ""))
		return s.left("") != before, s.err
	}},
	{behaviour.RulesPublishService, 1, 5, 1, wantService, spentByService},
	{behaviour.RulesPrefixUnknown, 1, 3, 0, "", unknownPrefix},
	{behaviour.RulesEditKeeps, 0, 3, 1, "", func(s *settling) (bool, error) {
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
	neighbour(behaviour.RulesAddOwned, 1, "owned", "owned"),
	neighbour(behaviour.RulesAddOccupied, 2, "occupied/", "occupied/1"),
	added(behaviour.RulesPrefixCase, `{"prefix":"{Upper}case","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	added(behaviour.RulesPrefixEncoded, `{"prefix":"{below}%7Euser","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	added(behaviour.RulesPathSlash, `{"prefix":"{below}slash","path":"/{page}","is_edit":0,"permit_sub_rule":1,"open_version":3}`),
	{behaviour.RulesPath, 0, 1, 1, "", func(s *settling) (bool, error) {
		s.note(s.Below+"blank", "")
		return s.other(rulesFamily+"qrcodejumpadd", 40097,
			s.fill(`{"prefix":"{below}blank","path":"","is_edit":0,"permit_sub_rule":1,"open_version":3}`))
	}},
	{behaviour.CodesGate, 0, 1, 0, "", func(s *settling) (bool, error) { // of an account that may not, and no JSON
		return s.other("/intp/marketcode/applycode", 48001, `{"code_count":`)
	}},
	listed(behaviour.WireNumberText, `{"get_type":2,"page_num":"1","page_size":1}`),
	listed(behaviour.WireNumberFloat, `{"get_type":2,"page_num":1.0,"page_size":1}`),
	{behaviour.WireNumberForm, 0, 1, 0, "", func(s *settling) (bool, error) {
		return s.other(rulesFamily+"qrcodejumpget", 40097, `{"get_type":2,"page_num":"1x","page_size":1}`)
	}},
	listed(behaviour.WireListText, `{"get_type":1,"prefix_list":"https://coffee.example/settle/one"}`),
	listed(behaviour.WireFieldUnknown, `{"get_type":2,"page_num":1,"page_size":1,"settle":1}`),
	added(behaviour.WireFieldNull,
		`{"prefix":"{below}null","path":"{page}","is_edit":0,"permit_sub_rule":1,"open_version":3,"debug_url":null}`),
	{behaviour.WireFieldQuery, 0, 1, 0, "", func(s *settling) (bool, error) {
		s.query = "&page_num=1"
		defer func() { s.query = "" }()
		return s.refused(behaviour.WireFieldQuery, "qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":1}`)
	}},
	{behaviour.WireBodyType, 0, 1, 0, "", func(s *settling) (bool, error) {
		s.contentType = "text/plain"
		defer func() { s.contentType = "" }()
		return s.refused(behaviour.WireBodyType, "qrcodejumpget", `{"get_type":2,"page_num":1,"page_size":1}`)
	}},
	listed(behaviour.WireFieldDoubled, `{"get_type":2,"page_num":1,"page_size":1,"page_size":1}`),
	{behaviour.TokenStableSoon, 0, 2, 0, wantRefresh, func(s *settling) (bool, error) {
		first, err := s.stable(s.who, true)
		if err != nil {
			return false, err
		}
		second, err := s.stable(s.who, true)
		return second != first, err
	}},
}

// added asks whether an add is taken, which is refused with the row's number else.
func added(row behaviour.Row, body string) question {
	return question{row, 0, 1, 1, "", func(s *settling) (bool, error) {
		body := s.fill(body)
		var sent struct{ Prefix string }
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			return false, err
		}
		s.note(sent.Prefix, "")
		return s.refused(row, "qrcodejumpadd", body)
	}}
}

// listed asks whether a way to ask for the list is taken.
func listed(row behaviour.Row, body string) question {
	return question{row, 0, 1, 0, "", func(s *settling) (bool, error) { return s.refused(row, "qrcodejumpget", body) }}
}

// neighbour asks what another Mini Program is answered that adds a prefix beside or below one of this account.
func neighbour(row behaviour.Row, permit int, mine, theirs string) question {
	return question{row, 0, 2, 2, wantNeighbour, func(s *settling) (bool, error) {
		s.note(s.Below+mine, "")
		s.done("qrcodejumpadd", strings.Replace(s.body(s.Below+mine, 0, ""), `"permit_sub_rule":1`,
			fmt.Sprintf(`"permit_sub_rule":%d`, permit), 1))
		if s.become(s.NeighbourAppID, s.NeighbourSecret); s.err != nil {
			return false, s.err
		}
		s.note(s.Below+theirs, "")
		return s.other(rulesFamily+"qrcodejumpadd", 85072, s.body(s.Below+theirs, 0, ""))
	}}
}

// unknownPrefix asks for an edit, a publish and a delete of a rule that nobody has. The delete undoes what an edit that adds would make.
func unknownPrefix(s *settling) (otherwise bool, err error) {
	prefix := s.Below + "unknown"
	s.note(prefix, "")
	for _, call := range []struct{ name, body string }{
		{"qrcodejumpadd", s.body(prefix, 1, "")},
		{"qrcodejumppublish", fmt.Sprintf(`{"prefix":%q}`, prefix)},
		{"qrcodejumpdelete", fmt.Sprintf(`{"prefix":%q}`, prefix)},
	} {
		one, err := s.other(rulesFamily+call.name, 40097, call.body)
		if err != nil {
			return false, err
		}
		otherwise = otherwise || one
	}
	s.who.made = s.who.made[:len(s.who.made)-1]
	return otherwise, nil
}

// spentByService asks whether the publish of a service account's rule counts. The rule is that of a code that ends within a minute.
func spentByService(s *settling) (bool, error) {
	if s.become(s.ServiceAppID, s.ServiceSecret); s.err != nil {
		return false, s.err
	}
	answer, _, err := s.call("/cgi-bin/qrcode/create?access_token="+url.QueryEscape(s.who.token),
		`{"expire_seconds":60,"action_name":"QR_STR_SCENE","action_info":{"scene":{"scene_str":"settle"}}}`)
	var code struct{ URL string }
	if err == nil {
		err = json.Unmarshal(answer, &code)
	}
	if err != nil || code.URL == "" {
		return false, errors.Join(err, fault("settle.answered", "qrcode/create", answer))
	}
	target := fmt.Sprintf(`,"appid":%q`, s.AppID)
	s.note(code.URL, target)
	s.done("qrcodejumpadd", "%s", s.body(code.URL, 0, target))
	before := s.left(target)
	s.done("qrcodejumppublish", `{"prefix":%q}`, code.URL)
	return s.left(target) != before, s.err
}

// settling is a run.
type settling struct {
	*settleCommand
	ctx   context.Context
	url   string     // of the recorder
	all   []*settler // the account itself, and those that questions want
	who   *settler   // that makes the calls
	calls int
	err   error // of the question that is asked: its next calls are not made

	query, contentType string // of the calls of a question that asks for them; "" = as it should be
}

// settler is an account that takes part.
type settler struct {
	appid, secret, token string
	made                 []madeRule // to delete
}

// madeRule is a rule that was made, with further fields of the call that deletes it.
type madeRule struct{ prefix, more string }

// rulesFamily is where the calls of the jump rules stand.
const rulesFamily = "/cgi-bin/wxopen/"

// note notes a rule that the next call may make.
func (s *settling) note(prefix, more string) { s.who.made = append(s.who.made, madeRule{prefix, more}) }

// become lets an account make the next calls.
func (s *settling) become(appid, secret string) {
	if s.err != nil {
		return
	}
	at := slices.IndexFunc(s.all, func(one *settler) bool { return one.appid == appid })
	if at < 0 {
		one := &settler{appid: appid, secret: secret}
		if _, s.err = s.stable(one, false); s.err != nil {
			return
		}
		at, s.all = len(s.all), append(s.all, one)
	}
	s.who = s.all[at]
}

// stable takes the stable token of an account.
func (s *settling) stable(of *settler, force bool) (string, error) {
	answer, _, err := s.call("/cgi-bin/stable_token",
		fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, of.appid, of.secret, force))
	var token struct {
		Token string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(answer, &token)
	}
	if err != nil || token.Token == "" {
		return "", errors.Join(err, fault("settle.no_token", answer))
	}
	of.token = token.Token
	return of.token, nil
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
	return s.call(rulesFamily+name+"?access_token="+url.QueryEscape(s.who.token)+s.query, body)
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
		err = fault("settle.answered", name, answer)
	}
	s.err = err
	return answer
}

// add adds a rule below the directory of this run.
func (s *settling) add(name, more string) (prefix string) {
	prefix = s.Below + name
	s.note(prefix, "")
	s.done("qrcodejumpadd", "%s", s.body(prefix, 0, more))
	return prefix
}

// left is how many publishes the account has left, as the list of rules says; more are further fields of the call.
func (s *settling) left(more string) int {
	var list struct {
		Left *int `json:"qrcodejump_pub_quota"`
	}
	answer := s.done("qrcodejumpget", "%s", `{"get_type":2,"page_num":1,"page_size":1`+more+`}`)
	if s.err == nil {
		if s.err = json.Unmarshal(answer, &list); s.err == nil && list.Left == nil {
			s.err = fault("settle.no_quota", answer)
		}
	}
	if s.err != nil {
		return 0
	}
	return *list.Left
}

// refused reports whether a call is refused with the number of a row; another refusal settles nothing.
func (s *settling) refused(row behaviour.Row, name, body string) (bool, error) {
	d, _ := row.Deviation()
	answer, code, err := s.rule(name, body)
	switch {
	case err != nil:
		return false, err
	case code != 0 && code != d.Refusal:
		return false, fault("settle.answered", name, answer)
	}
	return code != 0, nil
}

// callers are numbers that speak of the caller or of the moment, whatever is asked: they settle nothing.
var callers = []int{-1, 40001, 40014, 40164, 42001, 44990, 45009, 45011, 48001, 61007}

// other reports whether a call is answered with another number than the table has.
func (s *settling) other(path string, number int, body string) (bool, error) {
	answer, code, err := s.call(path+"?access_token="+url.QueryEscape(s.who.token), body)
	if err == nil && code != number && slices.Contains(callers, code) {
		err = fault("settle.answered", path, answer)
	}
	return code != number, err
}

// undo deletes what the run added, or may have added where no answer came, and looks whether it is gone. A run that was broken off
// undoes it too.
func (s *settling) undo() (err error) {
	ctx, end := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
	defer end()
	s.ctx = ctx
	for _, s.who = range s.all {
		err = errors.Join(err, s.undoOne())
	}
	return err
}

func (s *settling) undoOne() (err error) {
	s.err = nil
	if len(s.who.made) == 0 {
		return nil
	}
	var prefixes []string
	for _, made := range s.who.made {
		prefixes = append(prefixes, made.prefix)
		if _, _, failed := s.rule("qrcodejumpdelete", fmt.Sprintf(`{"prefix":%q%s}`, made.prefix, made.more)); failed != nil {
			err = errors.Join(err, fault("settle.deleting", made.prefix, failed))
		}
	}
	asked, _ := json.Marshal(map[string]any{"get_type": 1, "prefix_list": prefixes})
	if more := s.who.made[0].more; more != "" { // a service account's list wants the Mini Program
		asked = append(asked[:len(asked)-1], more+"}"...)
	}
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

// asked are the questions of this run, and those that want what it was not given.
func (c *settleCommand) asked() (list, wanting []question, err error) {
	for _, name := range c.Only {
		at := slices.IndexFunc(questions, func(q question) bool { return q.row.String() == name })
		if at < 0 {
			return nil, nil, misused("settle.only", name)
		}
		if q := questions[at]; !c.has(q.wants) {
			return nil, nil, misused("settle.only_wants", name, said("settle.wants."+string(q.wants)))
		}
	}
	for _, q := range questions {
		switch {
		case len(c.Only) > 0 && !slices.Contains(c.Only, q.row.String()):
		case !c.has(q.wants):
			wanting = append(wanting, q)
		default:
			list = append(list, q)
		}
	}
	return list, wanting, nil
}

// Run asks the platform what only it can say, records it and undoes it.
func (c *settleCommand) Run(s *session) (err error) {
	list, wanting, err := c.asked()
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
	calls, publishes := costs(list)
	tell(s.out, "settle.cost", counted(calls, "call"),
		counted(publishes, "publish"))
	for _, q := range wanting {
		tell(s.out, "settle.not_asked", q.row, said("settle.wants."+string(q.wants)))
	}
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
	err = run.askAll(s, list)
	err = errors.Join(err, run.undo(), recording.Close())
	_, failed := r.Lines()
	err = errors.Join(err, failed, out.Sync(), out.Close())
	tell(s.out, "settle.spent", counted(run.calls, "call"), c.Out)
	if err != nil {
		return fault("settle.settle", err)
	}
	return c.printSeen(s.out)
}

// askAll asks every question, and says how each came out.
func (s *settling) askAll(to *session, list []question) error {
	if s.become(s.AppID, s.Secret); s.err != nil {
		return s.err
	}
	open := 0
	for _, q := range list {
		if err := s.ctx.Err(); err != nil {
			return fault("settle.broken_off", err)
		}
		s.err, s.who = nil, s.all[0]
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
