// Package verification checks step by step how a host responds when the verification file of a rule is fetched, and recommends how
// to fix problems.
package verification

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

//go:embed locale
var files embed.FS

var catalog = i18n.Open(files)

// Step is one checked step of fetching the verification file.
type Step struct {
	Action  i18n.Message `json:"action"`
	OK      bool         `json:"ok"`
	Warning bool         `json:"warning"` // the step works on this server but may fail on the platform
	Detail  i18n.Message `json:"detail"`
	Hint    i18n.Message `json:"hint"`
	// Remedy identifies the advice in Hint independently of the language: it is a reason of package safehttp, such as "not_resolved", or a
	// code such as "status_404" or "content".
	Remedy string `json:"remedy,omitempty"`
}

// InPlace reports whether the verification file was found with the correct content.
func InPlace(steps []Step) bool { return len(steps) > 0 && steps[len(steps)-1].OK }

// fetchChain collects the steps of a check.
type fetchChain struct {
	host  string
	steps []Step
}

func (v *fetchChain) pass(did string, detail i18n.Message) {
	v.steps = append(v.steps, Step{Action: catalog.Text("did." + did), OK: true, Detail: detail})
}

func (v *fetchChain) warn(did string, detail i18n.Message, cure string, next i18n.Message) {
	v.steps = append(v.steps, Step{Action: catalog.Text("did." + did), OK: true, Warning: true, Detail: detail, Hint: next, Remedy: cure})
}

func (v *fetchChain) fail(did, detail, cure string, next i18n.Message) {
	v.steps = append(v.steps, Step{Action: catalog.Text("did." + did), Detail: i18n.Literal(detail), Hint: next, Remedy: cure})
}

// Walk fetches a verification file with the same restrictions as the server, and judges every step as the server does when a rule is added.
// The last step shows whether the file is in place. Walk returns an error only if the context ended. Contract: rules §2.7.
func Walk(ctx context.Context, fetch safehttp.Client, address, content string) ([]Step, error) {
	link, _ := rules.ParseLink(address)
	v := &fetchChain{host: link.Host}
	answer, did, err := fetch.Do(ctx, safehttp.Request{Method: http.MethodGet, URL: address, Timeout: rules.ConfirmTimeout,
		MaxBody: rules.MaxConfirmBody})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	refused, _ := errors.AsType[*safehttp.Error](err)
	for i, step := range did {
		switch {
		case step.Failed:
			v.fail(step.Action, step.Detail, string(refused.Reason), v.cure(refused.Reason))
			return v.steps, nil
		case step.Action == "answer":
			if i+1 < len(did) && did[i+1].Failed && did[i+1].Action == "answer" {
				continue // the step after this one describes the error
			}
			v.pass("answer", catalog.Text("none"))
			if answer.Status != http.StatusOK {
				cure := cureOfStatus(answer.Status)
				v.fail("status", fmt.Sprintf("%d, want 200", answer.Status), cure, catalog.Text("cure."+cure))
				return v.steps, nil
			}
			v.pass("status", i18n.Literal("200"))
			v.kind(answer.Header)
		case step.Action != "send": // no step is added for "send": the steps of the response show that the request was sent
			v.pass(step.Action, i18n.Literal(step.Detail))
		}
		switch {
		case step.Action == "resolve", step.Action == "url" && i+1 < len(did) && did[i+1].Action == "connect":
			v.address(ctx, fetch.AllowPrivate, address)
		case step.Action == "connect" && strings.HasPrefix(address, "http:"):
			v.pass("tls", catalog.Text("tls.none"))
		}
	}
	if err != nil {
		return nil, err
	}
	if first, last := did[0].OccurredAt, did[len(did)-1].OccurredAt; last.Sub(first) > time.Second {
		v.warn("time", i18n.Literal(last.Sub(first).Round(time.Millisecond).String()), "slow", catalog.Text("cure.slow"))
	}
	if err := rules.CheckFile(answer.Body, content); err != nil {
		v.fail("content", err.Error(), "content", catalog.Text("cure.content"))
		return v.steps, nil
	}
	v.pass("content", catalog.Text("right"))
	return v.steps, nil
}

// address checks whether the platform would also connect to the address that this client used.
func (v *fetchChain) address(ctx context.Context, allowPrivate bool, address string) {
	if !allowPrivate {
		v.pass("address", catalog.Text("public"))
		return
	}
	stranger := safehttp.Client{}
	if refused, ok := errors.AsType[*safehttp.Error](stranger.Check(ctx, address)); ok {
		v.warn("address", i18n.Literal(refused.Detail), "private", catalog.Text("cure.private"))
		return
	}
	v.pass("address", catalog.Text("public"))
}

// kind checks the Content-Type of the response with the verification file. This server ignores the Content-Type; a reply of the
// platform's staff suggests that the platform may check it. Contract: rules §2.7.
func (v *fetchChain) kind(h http.Header) {
	kind := h.Get("Content-Type")
	switch media, _, _ := strings.Cut(kind, ";"); {
	case kind == "":
		v.warn("type", catalog.Text("none"), "type", catalog.Text("cure.type"))
	case strings.EqualFold(strings.TrimSpace(media), "text/plain"):
		v.pass("type", i18n.Literal(kind))
	default:
		v.warn("type", i18n.Literal(kind), "type", catalog.Text("cure.type.other"))
	}
}

// cure returns the advice for a failed fetch.
func (v *fetchChain) cure(r safehttp.Reason) i18n.Message {
	host, _, _ := strings.Cut(v.host, ":")
	switch r {
	case safehttp.BadURL, safehttp.PortRefused, safehttp.Redirected, safehttp.Encoded:
		return catalog.Text("cure." + string(r))
	case safehttp.NotResolved, safehttp.AddressRefused, safehttp.ConnectFailed, safehttp.TLSFailed:
		return catalog.Text("cure."+string(r), host)
	case safehttp.BodyTooLong:
		return catalog.Text("cure.body_too_long", rules.MaxConfirmBody)
	case safehttp.TimedOut:
		return catalog.Text("cure.timeout", rules.ConfirmTimeout)
	}
	return catalog.Text("cure.log", host)
}

// cureOfStatus returns the code of the advice for an HTTP status.
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
