package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

type scanCommand struct {
	serverFlags
	ScanServer      string `env:"QRJUMP_SCAN_SERVER" placeholder:"URL"`
	Key             string `env:"QRJUMP_KEY" placeholder:"SCANKEY"`
	Link            string `arg:"" file:"in,self" absent:""`
	User            string `placeholder:"USER"`
	Source          string `enum:"scan,press,album" default:"scan" placeholder:"scan|press|album"`
	Explain         bool
	AssumePublished bool
	Snapshot        string `placeholder:"FILE" file:"in"`
	At              string `placeholder:"TIME"`
	Owner           string `placeholder:"APPID"`
	adminFlags
	outputFlags
}

// Run scans one link, or the links from standard input.
func (c *scanCommand) Run(s *session) error {
	if c.Snapshot != "" {
		return c.fromSnapshot(s)
	}
	if c.Owner != "" && c.At == "" {
		return misused("scan.owner_wants_at")
	}
	if c.At != "" {
		if c.Link == "-" || c.explains() {
			return misused("scan.at_is_for_one_link")
		}
		return c.resolveThen(s)
	}
	loc, err := c.scan(c.ScanServer)
	if err != nil {
		return err
	}
	// The admin token is sufficient for an explanation; a scan needs a scan key.
	token, err := c.token(c.adminFlags, loc.url)
	if err != nil {
		return err
	}
	operator, err := c.connect(loc, client.Options{ScanKey: cmp.Or(c.Key, token)})
	if err != nil {
		return err
	}
	scanner, err := c.connect(loc, client.Options{ScanKey: c.Key})
	if err != nil {
		return err
	}
	switch {
	case c.Link == "-" && c.explains():
		return c.explainAll(s, operator)
	case c.Link == "-":
		return c.hasNoKey(c.resolveAll(s, scanner))
	case c.explains():
		e, err := c.explain(s, operator, c.request(c.Link))
		if err != nil {
			return failed("scan", c.Link, c.hasNoKey(err))
		}
		return c.show(s, e.Decision, func(w io.Writer) {
			// Codes are matched before rules, so a scan of a code has no rule steps to print.
			if isCode := e.Reason != "" || e.Matched != nil && e.Matched.CodeIndex != nil; !isCode {
				printSteps(w, s.reader, e.Steps)
			}
		})
	}
	d, err := scanner.Scans.Resolve(s.ctx, c.request(c.Link))
	if err != nil {
		return failed("scan", c.Link, c.hasNoKey(err))
	}
	return c.show(s, d, nil)
}

// hasNoKey adds to the error of a scan without a valid key the advice how to get a scan key.
func (c *scanCommand) hasNoKey(err error) error {
	if isProblem(err, http.StatusUnauthorized) {
		return hintError{error: err, next: tr("scan.lacks_key", shellWord(c.Link))}
	}
	return err
}

func (c *scanCommand) explains() bool { return c.Explain || c.AssumePublished }

func (c *scanCommand) request(link string) client.ScanRequest {
	return client.ScanRequest{Text: link, User: c.User, Source: c.Source}
}

// ofLine returns the scan request for a line of standard input: a text, optionally followed by a tab and a user.
func (c *scanCommand) ofLine(line string) client.ScanRequest {
	request := c.request(line)
	if i := strings.LastIndexByte(line, '\t'); i >= 0 {
		request.Text, request.User = line[:i], cmp.Or(line[i+1:], c.User)
	}
	return request
}

func (c *scanCommand) explain(s *session, scanner *client.Client, request client.ScanRequest) (client.Explanation, error) {
	return scanner.Scans.Explain(s.ctx, client.ExplainRequest{ScanRequest: request, AssumePublished: c.AssumePublished})
}

// show prints a decision and, in text output, the steps. If steps is nil and no rule matched, show names a command that prints steps.
func (c *scanCommand) show(s *session, d client.Decision, steps func(io.Writer)) error {
	return c.print(s, d.Raw, nil, func(w io.Writer) {
		fields := opens(d)
		if steps == nil && d.Action == client.OpenURL {
			fields = append(fields, [2]string{"reason", tr("scan.no_rule_opens_this_link") + shellWord(c.Link)})
		}
		printFields(w, fields...)
		if steps != nil {
			steps(w)
		}
	})
}

// opens describes the result of a decision in words.
func opens(d client.Decision) [][2]string {
	switch d.Action {
	case client.OpenMiniProgram:
		fields := [][2]string{{"opens", tr("audit.mini_program") + d.AppID + ", " + d.Version}, {"page", d.Path},
			{"scene", strconv.Itoa(d.Scene)}}
		switch m := d.Matched; {
		case m != nil && m.CodeIndex != nil:
			fields = append(fields, [2]string{"reason", tr("scan.code_of_application", *m.CodeIndex, m.ApplicationID)})
		case m != nil:
			fields = append(fields, [2]string{"reason", localizeOr("matched."+m.Kind, strings.ReplaceAll(m.Kind, "_", " ")) + " " +
				m.Prefix})
		}
		return fields
	case client.OpenURL:
		return [][2]string{{"opens", tr("audit.the_web_page") + d.URL}}
	case client.ShowText:
		return [][2]string{{"shows", tr("audit.the_text") + strconv.Quote(d.Text)}}
	case client.ShowMessage:
		return [][2]string{{"shows", tr("scan.the_message") + strconv.Quote(d.Message)}, {"reason", d.Reason}}
	}
	return [][2]string{{"action", d.Action}}
}

func printSteps(w io.Writer, r reader, steps []client.Step) {
	if len(steps) == 0 {
		printMsg(w, "scan.no_related_rules")
		return
	}
	fmt.Fprintln(w)
	printRows(w, []string{"VERDICT", "PREFIX", "OWNER", "REASON"}, steps, func(step client.Step) []string {
		return []string{step.Verdict, step.Prefix, step.Owner, r.inLanguage(step.English, step.Chinese)}
	})
}

// resolveAll scans the lines of standard input over one connection.
func (c *scanCommand) resolveAll(s *session, scanner *client.Client) error {
	lines := &lineReader{in: s.in}
	requests := func(yield func(client.ScanRequest) bool) {
		for line := range lines.all() {
			if !yield(c.ofLine(line)) {
				return
			}
		}
	}
	for d, err := range scanner.Scans.ResolveStream(s.ctx, requests) {
		if err != nil {
			return fault("scan.scan", err)
		}
		if _, err := s.out.Write(append(d.Raw, '\n')); err != nil {
			return err
		}
	}
	return lines.err
}

// explainAll explains the scans of the lines of standard input, with one call per line.
func (c *scanCommand) explainAll(s *session, scanner *client.Client) error {
	lines := &lineReader{in: s.in}
	for line := range lines.all() {
		request := c.ofLine(line)
		e, err := c.explain(s, scanner, request)
		if err != nil {
			return failed("scan", request.Text, err)
		}
		var answer bytes.Buffer
		if err := json.Compact(&answer, e.Raw); err != nil {
			return err
		}
		answer.WriteByte('\n')
		if _, err := s.out.Write(answer.Bytes()); err != nil {
			return err
		}
	}
	return lines.err
}

// maxLink is the maximum length of a line of standard input.
const maxLink = 64 << 10

// lineReader reads one link per line and skips empty lines.
type lineReader struct {
	in  io.Reader
	err error // the error that ended the reading; nil at the end of the input
}

func (l *lineReader) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		lines := bufio.NewScanner(l.in)
		lines.Buffer(nil, maxLink)
		for lines.Scan() {
			if link := strings.TrimSuffix(lines.Text(), "\r"); link != "" && !yield(link) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			l.err = fault("scan.reading_links_from_standard_input", err)
		}
	}
}

// fromSnapshot scans links with the rules of a snapshot file, without a server. The file contains rules, accounts and the links between
// accounts. The file contains no codes and no users, so test links, which need a user, open nothing.
func (c *scanCommand) fromSnapshot(s *session) error {
	if c.explains() || c.User != "" || c.At != "" {
		return misused("scan_snapshot.snapshot_knows_rules_and_accounts")
	}
	file, err := index.ReadSnapshot(c.Snapshot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return misused("scan_snapshot.snapshot_there_is_no_such", c.Snapshot)
	case err != nil:
		return fault("scan_snapshot.scan_a_server_writes_a", err)
	}
	resolver := scan.Resolver{Finder: file.Rules, Accounts: replica.AccountsOf(file.Accounts)}
	if c.Link != "-" {
		d, err := c.resolveFrom(resolver, c.Link)
		if err != nil {
			return err
		}
		return c.show(s, d, func(w io.Writer) {
			printFields(w, [2]string{"note", tr("scan_snapshot.from_a_snapshot_of_change", file.Seq)})
		})
	}
	lines := &lineReader{in: s.in}
	for line := range lines.all() {
		request := c.ofLine(line)
		if request.User != "" {
			return misused("scan_snapshot.snapshot_knows_rules_and_accounts")
		}
		d, err := c.resolveFrom(resolver, request.Text)
		if err != nil {
			return err
		}
		if _, err := s.out.Write(append(d.Raw, '\n')); err != nil {
			return err
		}
	}
	return lines.err
}

// resolveFrom scans a link with the snapshot's rules, and returns the decision in the format of the scan API.
func (c *scanCommand) resolveFrom(r scan.Resolver, link string) (client.Decision, error) {
	d := r.Resolve(scan.Request{Text: link, Source: scan.Source(c.Source), At: time.Now()})
	shown := client.Decision{Action: string(d.Action), AppID: d.AppID, Version: string(d.Version), Path: d.Path, Scene: d.Scene, URL: d.URL,
		Text: d.Text}
	if d.Kind != "" {
		shown.Matched = &client.Matched{Kind: string(d.Kind), Prefix: d.Matched.Prefix}
	}
	var raw bytes.Buffer
	e := json.NewEncoder(&raw)
	e.SetEscapeHTML(false)
	err := e.Encode(shown)
	shown.Raw = bytes.TrimSuffix(raw.Bytes(), []byte("\n"))
	return shown, err
}
