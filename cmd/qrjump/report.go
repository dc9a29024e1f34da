package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/phrase"
	"github.com/qrjump/qrjump/internal/yamltext"
)

// advised is an error with what to do next and what else is known.
type advised struct {
	error
	next    string   // "" = nothing to add
	details []string // lines below the first
}

func (a advised) Unwrap() error { return a.error }

// report says in lines what went wrong, with which thing and what to do next;
// nearly always it is one line.
func report(err error) []string {
	next, details := remedy(err)
	lines := []string{plain(join(err.Error(), next.String()))}
	for _, d := range details {
		lines = append(lines, "  "+plain(d))
	}
	return lines
}

// remedy is what to do about an error and what else is known of it.
func remedy(err error) (next phrase.Text, details []string) {
	if a, ok := errors.AsType[advised](err); ok {
		return phrase.Plain(a.next), a.details
	}
	return advice(err), nil
}

// join puts what to do behind what happened.
func join(happened, next string) string {
	switch {
	case next == "":
		return happened
	case strings.HasSuffix(happened, "?"):
		return happened + " (" + next + ")"
	}
	return happened + ": " + next
}

// advice is what to do about an error.
func advice(err error) phrase.Text {
	if w, ok := errors.AsType[*client.WrongServer](err); ok {
		if wantsTLS(w.Flaw) {
			return say("reach.https")
		}
		flag := map[string]string{
			"admin API": "--admin-server (QRJUMP_ADMIN_SERVER)", "scan API": "--scan-server (QRJUMP_SCAN_SERVER)"}[w.API]
		return phrase.Plain(cmp.Or(flag, "--server (QRJUMP_SERVER)") + ", or --data DIR of a server on this machine")
	}
	if u, ok := errors.AsType[*client.Unreachable](err); ok {
		_, otherName := errors.AsType[x509.HostnameError](err)
		_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
		switch {
		case otherName:
			return say("reach.certificate", whereFlags)
		case unknown:
			return say("reach.authority")
		case isRecordHeader(err):
			return say("reach.http")
		case errors.Is(err, context.Canceled):
			return phrase.Text{}
		case errors.Is(err, io.EOF) && strings.HasPrefix(u.URL, "http://"):
			return say("reach.maybe_tls")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return phrase.Plain("the server was stopped, or it waited too long for the next line")
		case errors.Is(err, context.DeadlineExceeded):
			return say("reach.hangs")
		case loopback(u.URL):
			return say("reach.start", whereFlags)
		}
		return say("reach.check", whereFlags)
	}
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Status == http.StatusUnauthorized {
		return phrase.Plain("operators give --admin-token (QRJUMP_ADMIN_TOKEN) or the server's --data DIR, scans give --key (QRJUMP_KEY)")
	}
	w, ok := errors.AsType[*client.WireError](err)
	if !ok {
		return phrase.Text{}
	}
	if w.Code == errcode.Unauthorized.Number && w.RID != "" {
		return phrase.Plain("the account lacks a condition of this call; which one says, to the operator: qrjump why " + w.RID)
	}
	if next := nextSteps[w.Code]; next != "" {
		return phrase.Plain(next)
	}
	if code, ok := errcode.ByNumber(w.Code); ok {
		return code.Meaning()
	}
	return phrase.Text{}
}

// wantsTLS reports whether an answer is that of a listener with TLS to plain HTTP.
func wantsTLS(answer string) bool { return strings.Contains(answer, "HTTP request to an HTTPS server") }

// isRecordHeader reports whether a server answered TLS with plain HTTP.
func isRecordHeader(err error) bool {
	_, plainHTTP := errors.AsType[tls.RecordHeaderError](err)
	return plainHTTP || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// nextSteps says what to do about an answer of the wire where its meaning
// alone does not.
var nextSteps = map[int]string{
	errcode.InvalidURL.Number:         "what answers there has no such call; check --server",
	errcode.InvalidCredential.Number:  "check --access-token",
	errcode.InvalidSecret.Number:      "check --appid with --secret",
	errcode.InvalidAppID.Number:       "no account has this --appid; see: qrjump account list",
	errcode.InvalidAccessToken.Number: "check --access-token",
	errcode.TokenExpired.Number:       "get a new --access-token, or give --appid and --secret",
	errcode.InvalidIP.Number:          "this machine's address is not on the account's list",
	errcode.InvalidWeappAppID.Number:  "link the service account first: qrjump account link SERVICE MINI",
	errcode.TooFrequent.Number:        "wait a second and do it again",
	errcode.Unauthorized.Number:       "the account is not certified, is of another kind, or was not granted the interface",
	errcode.IllegalPrefix.Number: "want http:// or https:// and a path on a public host of your own, only ASCII, no port; " +
		"for a service account http://weixin.qq.com/q/…",
	errcode.TestLinkNotBelow.Number:  "every --test-link must match the prefix",
	errcode.ConfirmFileFailed.Number: "put the file in place first; it is shown by: qrjump rule file --prefix PREFIX",
	errcode.PrefixAdded.Number:       "it is yours already; change it with: qrjump rule edit",
	errcode.PrefixOwned.Number:       "whose it is says, to the operator: qrjump rule occupiers PREFIX",
	errcode.PrefixLimit.Number:       "delete rules first; see: qrjump rule list",
	errcode.NotReleased.Number:       "release the Mini Program first; on a server of your own: qrjump account release APPID release",
	errcode.PublishQuota.Number:      "this month's publishes are used up; they come back on the first",
	errcode.RuleDamaged.Number:       "delete the rule and add it again",
}

// loopback reports whether a server is on this machine.
func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// plain keeps what a terminal would obey out of a text that others wrote.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// yamlFault says in one line where a YAML file is wrong.
func yamlFault(file string, err error) error { return misuse(yamltext.Fault(file, err)) }

// failed names the thing that an error is about.
func failed(did, thing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", did, thing, err)
}
