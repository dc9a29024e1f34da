package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/rules"
)

type verifyCommand struct {
	member
	URL          string `arg:"" name:"url" help:"The prefix of a rule, or the address of the file itself."`
	Name         string `placeholder:"FILE" help:"The file's name; without it and --content the server says both for --appid."`
	Content      string `placeholder:"TEXT" help:"What the file must hold; the URL is then that of the file, unless --name says its name."`
	AllowPrivate bool   `help:"Go to private addresses, ports other than 80 and 443, and hosts without a dot too; the platform does not."`
	HostCAFile   string `name:"host-ca-file" placeholder:"FILE" help:"The authority of the host's certificate, PEM, beside those that this machine trusts."`
}

// verifyStep is one thing that was looked at.
type verifyStep struct {
	Did    string `json:"did"`
	OK     bool   `json:"ok"`
	Warns  bool   `json:"warns"` // it works here, and may not on the platform
	Detail string `json:"detail"`
	Next   string `json:"next"`
}

func (s verifyStep) mark() string {
	switch {
	case !s.OK:
		return "no"
	case s.Warns:
		return "?"
	}
	return "ok"
}

// walk is what was looked at so far.
type walk struct {
	host  string
	steps []verifyStep
}

func (v *walk) pass(did, format string, args ...any) {
	v.steps = append(v.steps, verifyStep{Did: did, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (v *walk) warn(did, detail, next string) {
	v.steps = append(v.steps, verifyStep{Did: did, OK: true, Warns: true, Detail: detail, Next: next})
}

func (v *walk) fail(did, detail, next string) {
	v.steps = append(v.steps, verifyStep{Did: did, Detail: detail, Next: next})
}

// Run fetches the file by the rules of the server's own fetch, and judges it as
// an add of a rule does. Contract: rules 2.7.
func (c *verifyCommand) Run(s *session) error {
	name, content := c.Name, c.Content
	switch {
	case content == "" && (name != "" || c.AppID == "" && c.AccessToken == ""):
		return misused("what must the file hold? give --content TEXT, or --appid and --secret so that the server says it")
	case content == "":
		wire, err := c.client(s)
		if err != nil {
			return err
		}
		file, err := wire.DownloadFile(s.ctx)
		if err != nil {
			return fmt.Errorf("verification file: %w", err)
		}
		name, content = file.Name, file.Content
	}
	address := c.URL
	link, ok := rules.ParseLink(c.URL)
	if !ok {
		return misused("%s: want http:// or https:// and a host", plain(c.URL))
	}
	if name != "" && path.Base(link.Path()) != name {
		address = rules.Prefix{Link: link}.ConfirmAddress(name)
	}
	v := walk{host: link.Host}
	if err := c.walk(s, &v, address, content); err != nil {
		return err
	}
	last := v.steps[len(v.steps)-1]
	err := c.print(s, map[string]any{"url": address, "ok": last.OK, "steps": v.steps}, func(w io.Writer) { v.show(w, address) })
	if err == nil && !last.OK {
		err = advised{error: fmt.Errorf("the platform would refuse %s: %s: %s", address, last.Did, last.Detail), next: last.Next}
	}
	return err
}

// show prints a line for each step, and what to do below it.
func (v *walk) show(w io.Writer, address string) {
	fmt.Fprintln(w, plain(address))
	for _, step := range v.steps {
		fmt.Fprintf(w, "%-3s %-8s %s\n", step.mark(), step.Did, plain(step.Detail))
		if step.Next != "" && step.OK {
			fmt.Fprintf(w, "             %s\n", plain(step.Next))
		}
	}
	if v.steps[len(v.steps)-1].OK {
		fmt.Fprintln(w, "the file is in place")
	}
}

// walk fetches the file and judges every step of it.
func (c *verifyCommand) walk(s *session, v *walk, address, content string) error {
	fetch := outbound.Client{AllowPrivate: c.AllowPrivate, UserAgent: "qrjump (verification file)"}
	if c.HostCAFile != "" {
		pool, err := poolOf("--host-ca-file", c.HostCAFile)
		if err != nil {
			return err
		}
		fetch.RootCAs = pool
	}
	answer, did, err := fetch.Do(s.ctx, outbound.Request{Method: http.MethodGet, URL: address, Timeout: rules.ConfirmTimeout,
		MaxBody: rules.MaxConfirmBody})
	if s.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	refused, _ := errors.AsType[*outbound.Error](err)
	for i, step := range did {
		switch {
		case step.Failed:
			v.fail(words[step.Did], step.Detail, v.cure(refused.Reason))
			return nil
		case step.Did == "answer":
			if i+1 < len(did) && did[i+1].Failed && did[i+1].Did == "answer" {
				continue // the next step says what is wrong with it
			}
			v.pass("redirect", "none")
			if answer.Status != http.StatusOK {
				v.fail("status", fmt.Sprintf("%d, want 200", answer.Status), v.cureStatus(answer.Status))
				return nil
			}
			v.pass("status", "200")
			v.kind(answer.Header)
		case step.Did != "send": // what was asked for is known
			v.pass(words[step.Did], "%s", step.Detail)
		}
		switch {
		case step.Did == "resolve", step.Did == "url" && i+1 < len(did) && did[i+1].Did == "connect":
			c.address(s, v, address)
		case step.Did == "connect" && strings.HasPrefix(address, "http:"):
			v.pass("TLS", "none: the address begins with http")
		}
	}
	if err != nil {
		return err
	}
	if first, last := did[0].At, did[len(did)-1].At; last.Sub(first) > time.Second {
		v.warn("time", last.Sub(first).Round(time.Millisecond).String(), "the platform may give up: answer within a second")
	}
	if fault := rules.FileFault(answer.Body, content); fault != "" {
		v.fail("content", fault, "write the file anew and change nothing of it, or take the page away that answers in its place: "+
			"qrjump rule file --write DIR")
		return nil
	}
	v.pass("content", "as it must be")
	return nil
}

// words are the names of steps that readers see.
var words = map[string]string{"url": "address", "resolve": "DNS", "address": "public", "connect": "connect", "tls": "TLS",
	"answer": "redirect", "body": "size"}

// address says whether the platform would go where this command went.
func (c *verifyCommand) address(s *session, v *walk, address string) {
	if !c.AllowPrivate {
		v.pass("public", "every address of the host is public")
		return
	}
	stranger := outbound.Client{}
	if refused, ok := errors.AsType[*outbound.Error](stranger.Check(s.ctx, address)); ok {
		v.warn("public", refused.Detail, "allowed by --allow-private; the platform does not go there")
		return
	}
	v.pass("public", "every address of the host is public")
}

// kind looks at the Content-Type. The server does not ask for one; a reply of
// the platform's staff suspects that theirs does. Contract: rules 2.7.
func (v *walk) kind(h http.Header) {
	kind := h.Get("Content-Type")
	switch media, _, _ := strings.Cut(kind, ";"); {
	case kind == "":
		v.warn("type", "none", "send Content-Type: text/plain, for the platform may want one")
	case strings.EqualFold(strings.TrimSpace(media), "text/plain"):
		v.pass("type", "%s", kind)
	default:
		v.warn("type", kind, "the file is plain text: text/plain is safest")
	}
}

// cure says what to do where nothing was fetched.
func (v *walk) cure(r outbound.Reason) string {
	host, _, _ := strings.Cut(v.host, ":")
	switch r {
	case outbound.BadURL:
		return "give a web address of a public host, as it is in the code"
	case outbound.PortRefused:
		return "serve the file on port 80 or 443; to try another port: --allow-private"
	case outbound.NotResolved:
		return "add a DNS record for " + host + ", and wait until the world knows it"
	case outbound.AddressRefused:
		return "let " + host + " have public addresses alone; to try a private one: --allow-private"
	case outbound.ConnectFailed:
		return "start the web server of " + host + ", and let the firewall pass strangers"
	case outbound.TLSFailed:
		return "the certificate must be for " + host +
			", valid today, whole with its chain, by TLS 1.2 or later; a private authority: --host-ca-file"
	case outbound.Redirected:
		return "answer the file at this very address: take its path out of the redirect"
	case outbound.Encoded:
		return "switch compression off for the file"
	case outbound.BodyTooLong:
		return fmt.Sprintf("the file holds one short line, at most %d bytes: perhaps a page answers in its place", rules.MaxConfirmBody)
	case outbound.TimedOut:
		return fmt.Sprintf("answer within %s", rules.ConfirmTimeout)
	}
	return "look into the log of the web server of " + host
}

func (v *walk) cureStatus(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "put the file into the folder that this address names: qrjump rule file --write DIR"
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return "let strangers read the file: no sign-in and no filter on its path"
	case status >= http.StatusInternalServerError:
		return "look into the log of the web server: it failed"
	}
	return "answer the file with status 200"
}

// poolOf are the authorities of this machine and those of a file.
func poolOf(flag, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, misused("%s: %v", flag, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, misused("%s %s: it has no certificate in PEM form", flag, file)
	}
	return pool, nil
}
