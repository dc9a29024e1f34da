// Package verification knows what a host does when the verification file of a rule
// is fetched there, step by step, with what to do about it.
package verification

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/rules"
)

// Step is one thing that was looked at.
type Step struct {
	Did    string `json:"did"`
	OK     bool   `json:"ok"`
	Warns  bool   `json:"warns"` // it works here, and may not on the platform
	Detail string `json:"detail"`
	Next   string `json:"next"`
	// Cure is a word for what Next says, the same in every language: of "not_resolved"
	// and the other reasons of package outbound, or "status_404", "content" and their like.
	Cure string `json:"cure,omitempty"`
}

// InPlace reports whether the file was found as it must be.
func InPlace(steps []Step) bool { return len(steps) > 0 && steps[len(steps)-1].OK }

// walk is what was looked at so far.
type walk struct {
	host  string
	steps []Step
}

func (v *walk) pass(did, format string, args ...any) {
	v.steps = append(v.steps, Step{Did: did, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (v *walk) warn(did, detail, cure, next string) {
	v.steps = append(v.steps, Step{Did: did, OK: true, Warns: true, Detail: detail, Next: next, Cure: cure})
}

func (v *walk) fail(did, detail, cure, next string) {
	v.steps = append(v.steps, Step{Did: did, Detail: detail, Next: next, Cure: cure})
}

// Walk fetches a file by a client, by the rules of the server's own fetch, and judges
// every step of it as an add of a rule does; the last step says whether the file is in
// place. The error is that of a context that ended. Contract: rules 2.7.
func Walk(ctx context.Context, fetch outbound.Client, address, content string) ([]Step, error) {
	link, _ := rules.ParseLink(address)
	v := &walk{host: link.Host}
	answer, did, err := fetch.Do(ctx, outbound.Request{Method: http.MethodGet, URL: address, Timeout: rules.ConfirmTimeout,
		MaxBody: rules.MaxConfirmBody})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	refused, _ := errors.AsType[*outbound.Error](err)
	for i, step := range did {
		switch {
		case step.Failed:
			v.fail(words[step.Did], step.Detail, string(refused.Reason), v.cure(refused.Reason))
			return v.steps, nil
		case step.Did == "answer":
			if i+1 < len(did) && did[i+1].Failed && did[i+1].Did == "answer" {
				continue // the next step says what is wrong with it
			}
			v.pass("redirect", "none")
			if answer.Status != http.StatusOK {
				v.fail("status", fmt.Sprintf("%d, want 200", answer.Status), cureOfStatus(answer.Status), v.cureStatus(answer.Status))
				return v.steps, nil
			}
			v.pass("status", "200")
			v.kind(answer.Header)
		case step.Did != "send": // what was asked for is known
			v.pass(words[step.Did], "%s", step.Detail)
		}
		switch {
		case step.Did == "resolve", step.Did == "url" && i+1 < len(did) && did[i+1].Did == "connect":
			v.address(ctx, fetch.AllowPrivate, address)
		case step.Did == "connect" && strings.HasPrefix(address, "http:"):
			v.pass("TLS", "none: the address begins with http")
		}
	}
	if err != nil {
		return nil, err
	}
	if first, last := did[0].At, did[len(did)-1].At; last.Sub(first) > time.Second {
		v.warn("time", last.Sub(first).Round(time.Millisecond).String(), "slow", "the platform may give up: answer within a second")
	}
	if fault := rules.FileFault(answer.Body, content); fault != "" {
		v.fail("content", fault, "content", "write the file anew and change nothing of it, or take the page away that answers in its place: "+
			"qrjump rule file --write DIR")
		return v.steps, nil
	}
	v.pass("content", "as it must be")
	return v.steps, nil
}

// words are the names of steps that readers see.
var words = map[string]string{"url": "address", "resolve": "DNS", "address": "public", "connect": "connect", "tls": "TLS",
	"answer": "redirect", "body": "size"}

// address says whether the platform would go where this client went.
func (v *walk) address(ctx context.Context, allowPrivate bool, address string) {
	if !allowPrivate {
		v.pass("public", "every address of the host is public")
		return
	}
	stranger := outbound.Client{}
	if refused, ok := errors.AsType[*outbound.Error](stranger.Check(ctx, address)); ok {
		v.warn("public", refused.Detail, "private", "allowed by --allow-private; the platform does not go there")
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
		v.warn("type", "none", "type", "send Content-Type: text/plain, for the platform may want one")
	case strings.EqualFold(strings.TrimSpace(media), "text/plain"):
		v.pass("type", "%s", kind)
	default:
		v.warn("type", kind, "type", "the file is plain text: text/plain is safest")
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

// cureOfStatus is the word for what cureStatus says.
func cureOfStatus(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "status_404"
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return "status_403"
	case status >= http.StatusInternalServerError:
		return "status_5xx"
	}
	return "status"
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
