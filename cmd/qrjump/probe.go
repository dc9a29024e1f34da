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

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/emulator/cassette"
)

type probeCommand struct {
	Upstream string        `required:"" placeholder:"URL"`
	Out      string        `required:"" placeholder:"FILE" file:"out"`
	Only     []string      `placeholder:"ROW"`
	DryRun   bool          `name:"dry-run"`
	ReadOnly bool          `name:"read-only" xor:"refresh"`
	AppID    string        `name:"appid" env:"QRJUMP_APPID" required:"" placeholder:"APPID"`
	Secret   string        `env:"QRJUMP_SECRET" required:"" placeholder:"SECRET"`
	Below    string        `default:"https://coffee.example/probe/" placeholder:"URL"`
	Page     string        `default:"pages/index/index" placeholder:"PATH"`
	Pause    time.Duration `default:"250ms" placeholder:"TIME"`
	Refresh  bool          `name:"refresh" xor:"refresh"`

	SecondAppID   string `name:"second-appid" env:"QRJUMP_SECOND_APPID" placeholder:"APPID"`
	SecondSecret  string `env:"QRJUMP_SECOND_SECRET" placeholder:"SECRET"`
	ServiceAppID  string `name:"service-appid" env:"QRJUMP_SERVICE_APPID" placeholder:"APPID"`
	ServiceSecret string `env:"QRJUMP_SERVICE_SECRET" placeholder:"SECRET"`
}

// requirement is a precondition of a probe in addition to the account itself.
type requirement string

const (
	requireSecond  requirement = "second"  // another Mini Program
	requireService requirement = "service" // A service account that is linked with the Mini Program.
	// The user's consent to a token refresh, which invalidates the token of other programs of the account.
	requireRefresh requirement = "refresh"
	requireChanges requirement = "changes" // A run without --read-only.
)

// missing returns the requirement of a probe that the command's flags do not meet; "" means that all are met.
func (c *probeCommand) missing(p probe) requirement {
	switch {
	case c.ReadOnly && p.changes():
		return requireChanges
	case p.requires == requireSecond && (c.SecondAppID == "" || c.SecondSecret == ""),
		p.requires == requireService && (c.ServiceAppID == "" || c.ServiceSecret == ""),
		p.requires == requireRefresh && !c.Refresh:
		return p.requires
	}
	return ""
}

// costs returns the maximum numbers of calls and publishes in a run. Besides the probes' own calls, a run makes one call per account to
// fetch a token, and two list calls per account that adds rules.
func costs(list []probe) (calls, publishes int) {
	accounts, lists := map[requirement]bool{"": true}, map[requirement]bool{}
	for _, p := range list {
		calls += p.calls + p.rules
		publishes += p.publishes
		if p.requires == requireRefresh {
			continue
		}
		accounts[p.requires] = true
		if p.changes() {
			lists[""], lists[p.requires] = true, true
		}
	}
	return calls + len(accounts) + 2*len(lists), publishes
}

// probeRun is one run of the probe command.
type probeRun struct {
	*probeCommand
	ctx       context.Context
	url       string          // of the recorder
	limit     int             // The maximum number of calls, as announced at the start of the run.
	names     []string        // The prefixes that must not exist in any account before the run.
	accounts  []*probeAccount // The accounts that make the calls, in the order of their first use.
	current   *probeAccount
	calls     int
	publishes int   // successful ones
	err       error // The error of the current probe; most methods do nothing after an error.
}

// probeAccount is an account that takes part in a run.
type probeAccount struct {
	appid, secret, token string
	added                []addedRule // rules to delete
}

// addedRule is a rule that the run added or may have added; more holds further JSON fields for the call that deletes the rule.
type addedRule struct{ prefix, more string }

// reply is the response to a call. If err is nil, body is valid JSON.
type reply struct {
	path string // without the query
	body []byte
	code int
	sent bool // The platform may have received the call.
	err  error
}

const (
	rulesFamily = "/cgi-bin/wxopen/"
	jsonType    = "application/json"
)

// become selects the account that makes the next calls. At the first use of an account, become fetches its token and, except for the
// service account, checks that the account has no rule with a prefix of the run.
func (r *probeRun) become(appid, secret string) {
	if r.err != nil {
		return
	}
	i := slices.IndexFunc(r.accounts, func(a *probeAccount) bool { return a.appid == appid })
	if i >= 0 {
		r.current = r.accounts[i]
		return
	}
	account := &probeAccount{appid: appid, secret: secret}
	if _, r.err = r.stable(account, false); r.err != nil {
		return
	}
	r.accounts, r.current = append(r.accounts, account), account
	if len(r.names) > 0 && appid != r.ServiceAppID {
		r.err = r.requireAbsent(r.names, "")
	}
}

// requireAbsent returns an error if the current account has a rule with one of the prefixes.
func (r *probeRun) requireAbsent(prefixes []string, rest string) error {
	found, err := r.existing(prefixes, rest)
	if err != nil {
		return fault("probe.names_unknown", err)
	}
	if len(found) > 0 {
		return fault("probe.names_taken", r.current.appid, joinPrefixes(found))
	}
	return nil
}

// probedRule is a rule in the format of a get_type 1 list.
type probedRule struct {
	Prefix string
	Links  []string `json:"debug_url"`
}

func joinPrefixes(rules []probedRule) string {
	return strings.Join(mapped(rules, func(rule probedRule) string { return rule.Prefix }), ", ")
}

// existing returns those rules of the current account that have one of the prefixes; rest holds further JSON fields of the call.
func (r *probeRun) existing(prefixes []string, rest string) ([]probedRule, error) {
	asked, err := json.Marshal(prefixes)
	if err != nil {
		return nil, err
	}
	answer := r.rule("qrcodejumpget", fmt.Sprintf(`{"get_type":1,"prefix_list":%s%s}`, asked, rest))
	if answer.err == nil && answer.code != 0 {
		answer.err = fault("probe.answered", answer.path, answer.body)
	}
	var list struct {
		Rules []probedRule `json:"rule_list"`
	}
	if answer.err == nil {
		answer.err = json.Unmarshal(answer.body, &list)
	}
	return list.Rules, answer.err
}

// The method "stable" fetches the stable token of an account.
func (r *probeRun) stable(account *probeAccount, force bool) (string, error) {
	answer := r.call("/cgi-bin/stable_token", jsonType,
		fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q,"force_refresh":%t}`, account.appid, account.secret, force))
	var token struct {
		Token string `json:"access_token"`
	}
	if answer.err == nil {
		answer.err = json.Unmarshal(answer.body, &token)
	}
	if answer.err != nil || token.Token == "" {
		return "", cmp.Or(answer.err, fault("probe.no_token", answer.body))
	}
	account.token = url.QueryEscape(token.Token)
	return account.token, nil
}

func (r *probeRun) fill(text string) string {
	below, _ := url.Parse(r.Below)
	origin := below.Scheme + "://" + below.Host
	return strings.NewReplacer("{below}", r.Below, "{BELOW}", strings.ToUpper(origin)+strings.TrimPrefix(r.Below, origin),
		"{page}", r.Page).Replace(text)
}

func (r *probeRun) body(prefix string, edit int, rest string) string {
	return fmt.Sprintf(`{"prefix":%q,"path":%q,"is_edit":%d,"permit_sub_rule":1,"open_version":3%s}`, prefix, r.Page, edit, rest)
}

// call makes one call through the recorder. After an interrupt, the run waits for the response of the current call, which shows whether a
// rule must be deleted, and makes no new call.
func (r *probeRun) call(path, contentType, body string) (answer reply) {
	answer.path, _, _ = strings.Cut(path, "?")
	if r.calls >= r.limit {
		answer.err = fault("probe.limit", r.limit)
		return answer
	}
	if r.calls > 0 {
		if answer.err = pause(r.ctx, r.Pause); answer.err != nil {
			return answer
		}
	}
	r.calls++
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.ctx), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		answer.err = err
		return answer
	}
	answer.sent = true
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		answer.err = err
		return answer
	}
	defer resp.Body.Close()
	answer.body, answer.err = io.ReadAll(resp.Body)
	var tr struct{ ErrCode int }
	if answer.err == nil {
		if json.Unmarshal(answer.body, &tr) != nil {
			answer.err = fault("probe.no_json", resp.StatusCode, answer.body)
		}
	}
	answer.code = tr.ErrCode
	return answer
}

// rule makes one call of the jump rule API.
func (r *probeRun) rule(name, body string) reply { return r.send(name, "", jsonType, body) }

func (r *probeRun) send(name, query, contentType, body string) reply {
	answer := r.call(rulesFamily+name+"?access_token="+r.current.token+query, contentType, body)
	if name == "qrcodejumppublish" && answer.err == nil && answer.code == 0 {
		r.publishes++
	}
	return answer
}

// requireCall makes a call that must succeed for the probe to continue.
func (r *probeRun) requireCall(name, format string, args ...any) (answer reply) {
	if r.err == nil {
		answer = r.rule(name, fmt.Sprintf(format, args...))
		r.err = answer.success()
	}
	return answer
}

// success returns an error if the response's errcode is not 0.
func (a reply) success() error {
	if a.err == nil && a.code != 0 {
		return fault("probe.answered", a.path, a.body)
	}
	return a.err
}

// unknownOutcome lists the errcodes of calls that the platform may have executed in spite of the error.
var unknownOutcome = []int{-1, 886001}

// sendAdd sends a call that adds a rule. sendAdd records the rule for later deletion if the call succeeded or its outcome is unknown.
func (r *probeRun) sendAdd(prefix, rest, body string) reply {
	answer := r.rule("qrcodejumpadd", body)
	if answer.sent && (answer.err != nil || answer.code == 0 || slices.Contains(unknownOutcome, answer.code)) {
		r.current.added = append(r.current.added, addedRule{prefix, rest})
	}
	return answer
}

// add adds a rule that the probe needs to continue; an empty body means the body of a typical rule.
func (r *probeRun) add(prefix, rest, body string) {
	if r.err == nil {
		r.err = r.sendAdd(prefix, rest, cmp.Or(body, r.body(prefix, 0, rest))).success()
	}
}

// publishesLeft reads the number of the account's remaining publishes from a rule list; rest holds further JSON fields of the call.
func (r *probeRun) publishesLeft(rest string) int {
	var list struct {
		Remaining *int `json:"qrcodejump_pub_quota"`
	}
	answer := r.requireCall("qrcodejumpget", "%s", strings.TrimSuffix(listed, "}")+rest+"}")
	if r.err == nil {
		if r.err = json.Unmarshal(answer.body, &list); r.err == nil && list.Remaining == nil {
			r.err = fault("probe.no_quota", answer.body)
		}
	}
	if r.err != nil {
		return 0
	}
	return *list.Remaining
}

// refused reports whether the platform rejected a call with the errcode in a behaviour row; a response with another errcode is an error.
func (r *probeRun) refused(row behaviour.Row, answer reply) (bool, error) {
	d, _ := row.Deviation()
	if answer.err == nil && answer.code == d.Refusal {
		return true, nil
	}
	return false, answer.success()
}

// callerNumbers lists errcodes that depend on the caller or on the time and not on the request, so they prove nothing.
var callerNumbers = []int{-1, 40001, 40014, 40164, 42001, 44990, 45009, 45011, 48001, 61007, 886001}

// differs reports whether an errcode is not number, the errcode that qrjump returns. For an errcode in callerNumbers, it returns an error.
func (r *probeRun) differs(number int, answer reply) (bool, error) {
	if answer.err == nil && answer.code != number && slices.Contains(callerNumbers, answer.code) {
		answer.err = fault("probe.answered", answer.path, answer.body)
	}
	return answer.err == nil && answer.code != number, answer.err
}

// anyDiffers makes calls, given as pairs of name and body, until the errcode of a response differs from number.
func (r *probeRun) anyDiffers(number int, calls ...string) (bool, error) {
	for pair := range slices.Chunk(calls, 2) {
		if fallback, err := r.differs(number, r.rule(pair[0], pair[1])); err != nil || fallback {
			return fallback, err
		}
	}
	return false, nil
}

// maxDeletes is the maximum number of attempts to delete one rule.
const maxDeletes = 5

// undo deletes the rules that the run added or may have added, even after an interrupt. The error names the rules that could not be
// deleted.
func (r *probeRun) undo() (deleted int, err error) {
	left := 0
	for _, account := range r.accounts {
		left += len(account.added)
	}
	if left == 0 {
		return 0, nil
	}
	limit := time.Minute + time.Duration(left*maxDeletes*maxDeletes)*r.Pause
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), limit)
	defer cancel()
	r.ctx, r.limit = ctx, r.calls+left*maxDeletes+len(r.accounts)*maxDeletes
	for _, r.current = range r.accounts {
		n, failed := r.deleteAdded()
		deleted, err = deleted+n, errors.Join(err, failed)
	}
	return deleted, err
}

// retryCall repeats a call until its outcome is known, at most maxDeletes times.
func (r *probeRun) retryCall(call func() reply) (answer reply) {
	for n := range maxDeletes {
		if answer = call(); answer.err == nil && answer.code != 44990 && !slices.Contains(unknownOutcome, answer.code) {
			return answer
		}
		if pause(r.ctx, time.Duration(n)*r.Pause) != nil {
			return answer
		}
	}
	return answer
}

// deleteAdded deletes the rules that the run added to the current account.
func (r *probeRun) deleteAdded() (deleted int, err error) {
	var prefixes []string
	rest := ""
	for _, rule := range r.current.added {
		prefixes, rest = append(prefixes, rule.prefix), rule.more // rest contains the Mini Program, which service accounts must name
		answer := r.retryCall(func() reply {
			return r.rule("qrcodejumpdelete", fmt.Sprintf(`{"prefix":%q%s}`, rule.prefix, rule.more))
		})
		if answer.success() == nil {
			deleted++
		}
	}
	if len(prefixes) == 0 {
		return 0, nil
	}
	var found []probedRule
	r.retryCall(func() (answer reply) {
		found, err = r.existing(prefixes, rest)
		return reply{err: err}
	})
	switch {
	case err != nil:
		return deleted, fault("probe.left_unknown", r.current.appid, strings.Join(prefixes, ", "), err)
	case len(found) > 0:
		return deleted, fault("probe.still_there", r.current.appid, joinPrefixes(found))
	}
	return deleted, nil
}

// plan returns the probes of this run, and the probes that the run skips.
func (c *probeCommand) plan() (list, left []probe, err error) {
	for _, name := range c.Only {
		i := slices.IndexFunc(probes, func(p probe) bool { return p.row.String() == name })
		if i < 0 {
			return nil, nil, misused("probe.only", name)
		}
		if missingRequirement := c.missing(probes[i]); missingRequirement != "" {
			return nil, nil, misused("probe.only_wants", name, tr("probe.wants."+string(missingRequirement)))
		}
	}
	for _, p := range probes {
		switch {
		case len(c.Only) > 0 && !slices.Contains(c.Only, p.row.String()):
		case c.missing(p) != "":
			left = append(left, p)
		default:
			list = append(list, p)
		}
	}
	return list, left, nil
}

// question describes the question that a probe answers; for a partial probe, it also describes the part of the behaviour row that stays
// open.
func (p probe) question() (text string) {
	text = tr("probe.tested", tr("probe.asks."+p.row.String()))
	if p.partial {
		text += tr("probe.not_tested_in_part", tr("probe.leaves."+p.row.String()))
	}
	return text
}

// Run tests the behaviour of the real platform with recorded calls, and then deletes the rules that these calls added.
func (c *probeCommand) Run(s *session) (err error) {
	list, left, err := c.plan()
	if err != nil {
		return err
	}
	upstream, err := upstreamOf(c.Upstream)
	if err != nil {
		return err
	}
	if below, err := url.Parse(c.Below); err != nil || below.Host == "" || !strings.HasSuffix(c.Below, "/") {
		return misused("probe.below")
	}
	calls, publishes := costs(list)
	cost := textOr(!slices.ContainsFunc(list, probe.changes), "probe.cost_read_only", "probe.cost")
	printMsg(s.out, cost, counted(calls, "call"), counted(publishes, "publish"))
	for _, p := range left {
		printMsg(s.out, "probe.not_tested", p.row, tr("probe.wants."+string(c.missing(p))))
	}
	if c.DryRun {
		for _, p := range list {
			printMsg(s.out, "probe.costs", p.row, counted(p.calls+p.rules, "call"), counted(p.publishes, "publish"), p.question())
		}
		return nil
	}
	out, err := newCassette(c.Out)
	if err != nil {
		return err
	}
	recorder := &cassette.Recorder{Upstream: upstream, Out: out, Log: slog.New(slog.NewTextHandler(s.err, nil)), Now: time.Now,
		Timeout: 30 * time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	recording := &http.Server{Handler: recorder, ReadHeaderTimeout: 10 * time.Second}
	go recording.Serve(l)
	run := &probeRun{probeCommand: c, ctx: s.ctx, url: "http://" + l.Addr().String(), limit: calls}
	err = run.askAll(s, list)
	deleted, undone := run.undo()
	_, failed := recorder.Lines()
	err = errors.Join(err, recording.Close(), failed, out.Sync(), out.Close())
	printMsg(s.out, "probe.used", counted(run.calls, "call"), counted(run.publishes, "publish"), counted(deleted, "rule"), c.Out)
	switch {
	case undone != nil: // rules of the run are left on the platform: the next step is to delete them
		return hintError{error: fault("probe.probe", cmp.Or(err, error(constant("probe.not_undone")))), next: plain(undone.Error())}
	case err != nil:
		return fault("probe.probe", err)
	}
	return c.printSeen(s.out)
}

// begin prepares every account that the probes need (see the method become).
func (r *probeRun) begin(list []probe) error {
	second, service := false, false
	for _, p := range list {
		second, service = second || p.requires == requireSecond, service || p.requires == requireService
		for _, name := range p.names {
			r.names = append(r.names, r.fill(name))
		}
	}
	r.become(r.AppID, r.Secret)
	if second {
		r.become(r.SecondAppID, r.SecondSecret)
	}
	if service {
		r.become(r.ServiceAppID, r.ServiceSecret)
	}
	return r.err
}

// askAll runs every probe and prints its result.
func (r *probeRun) askAll(s *session, list []probe) error {
	if err := r.begin(list); err != nil {
		return err
	}
	open := 0
	for _, p := range list {
		r.err, r.current = nil, r.accounts[0]
		fallback, err := p.ask(r)
		switch {
		case r.ctx.Err() != nil:
			return fault("probe.broken_off", p.row, r.ctx.Err())
		case err != nil:
			open++
			printMsg(s.out, "probe.open", p.row, plain(err.Error()), p.question())
		case fallback:
			printMsg(s.out, "probe.different", p.row, p.question())
		case p.partial:
			printMsg(s.out, "probe.as_here_in_part", p.row, p.question())
		default:
			printMsg(s.out, "probe.as_here", p.row, p.question())
		}
	}
	if open > 0 {
		return fault("probe.open_rows", counted(open, "row"), len(list))
	}
	return nil
}

// printSeen prints the lines for docs/contract/seen.
func (c *probeCommand) printSeen(w io.Writer) error {
	lines, err := cassette.ReadFile(c.Out)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "qrjump-probe")
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
		_, err = io.Copy(w, bytes.NewReader(append([]byte(tr("probe.seen")+"\n"), seen...)))
	}
	return err
}
