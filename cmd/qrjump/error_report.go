package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// hintError is an error with the next step and further details.
type hintError struct {
	error
	next    string   // If next is "", there is no advice.
	details []string // details are printed below the error, one per line.
}

func (a hintError) Unwrap() error { return a.error }

// report returns the lines of text for an error: a line with the error and the next step, and a line for each detail.
func report(err error) []string {
	next, details := remedy(err)
	lines := []string{plain(join(inReader(err).Error(), outputLanguage.msg(next)))}
	for _, d := range details {
		lines = append(lines, "  "+plain(d))
	}
	return lines
}

// remedy returns the remedy for an error and further details.
func remedy(err error) (next i18n.Message, details []string) {
	if a, ok := errors.AsType[hintError](err); ok {
		return i18n.Literal(inReader(errors.New(a.next)).Error()), a.details
	}
	return advice(err), nil
}

// join appends the next step to the error text.
func join(happened, next string) string {
	switch {
	case next == "":
		return happened
	case strings.HasSuffix(happened, "?"):
		return happened + tr("report.in_brackets", next)
	}
	return happened + tr("report.colon") + next
}

// advice returns the next step for an error that has no advice of its own; the message is empty if no step is known.
func advice(err error) i18n.Message {
	if w, ok := errors.AsType[*client.WrongServer](err); ok {
		if wantsTLS(w.Reason) {
			return msg("reach.https")
		}
		flag := map[string]string{
			"admin API": "--admin-server (QRJUMP_ADMIN_SERVER)", "scan API": "--scan-server (QRJUMP_SCAN_SERVER)"}[w.API]
		return i18n.Literal(cmp.Or(flag, "--server (QRJUMP_SERVER)") + tr("report.or_data_dir_of_a"))
	}
	if u, ok := errors.AsType[*client.Unreachable](err); ok {
		_, hostErr := errors.AsType[x509.HostnameError](err)
		_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
		_, invalid := errors.AsType[x509.CertificateInvalidError](err)
		switch {
		case hostErr:
			return msg("reach.certificate", serverFlagNames)
		case unknown:
			return msg("reach.authority")
		case invalid:
			return msg("reach.invalid")
		case errors.Is(err, http.ErrSchemeMismatch):
			return msg("reach.http")
		case errors.Is(err, context.Canceled):
			return i18n.Message{}
		case errors.Is(err, io.EOF) && strings.HasPrefix(u.URL, "http://"):
			return msg("reach.maybe_tls")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return i18n.Literal(tr("report.the_server_was_stopped_or"))
		case errors.Is(err, context.DeadlineExceeded):
			return msg("reach.hangs")
		case loopback(u.URL):
			return msg("reach.start", serverFlagNames)
		}
		return msg("reach.check", serverFlagNames)
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(file, fs.ErrPermission) {
		return msg("folder.permission")
	}
	if isProblem(err, http.StatusUnauthorized) {
		return msg(textOr(loopback(sent.server), "report.operators_give_admin_token_qrjump", "report.operators_elsewhere"))
	}
	w, ok := errors.AsType[*client.WireError](err)
	if !ok {
		return i18n.Message{}
	}
	if w.Code == errcode.Unauthorized.Number && w.RID != "" {
		return i18n.Literal(tr("report.the_account_lacks_a_condition") + w.RID)
	}
	// An errcode whose meaning already implies the next step has no text of its own.
	if key := "next." + strconv.Itoa(w.Code); catalog.Has(key) {
		return msg(key)
	}
	if code, ok := errcode.ByNumber(w.Code); ok {
		return code.Meaning()
	}
	return i18n.Message{}
}

// wantsTLS reports whether a response is the error that a TLS listener sends to a plain HTTP request.
func wantsTLS(answer string) bool { return strings.Contains(answer, "HTTP request to an HTTPS server") }

// loopback reports whether a server URL points to this machine.
func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// plain removes terminal control characters from an untrusted text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// yamlFault returns the position and the error of an invalid YAML file in one line.
func yamlFault(file string, err error) error { return usageError(safeyaml.ErrorLine(file, err)) }

// failed adds the action and the affected object to an error.
func failed(did, thing string, err error) error {
	if err == nil {
		return nil
	}
	return fault("batch.of_2", doing(did, thing), err)
}

// doing describes a failed action on an object, such as "list accounts" and "activate 0-9 of 500000001", in the reader's language.
func doing(did, thing string) string {
	words := strings.Fields(did)
	verb, last := "did."+words[0], len(words)-1
	switch {
	case outputLanguage.language() == i18n.English || !catalog.Has(verb):
		return tr("doing", strings.TrimSuffix(localizeOr("did."+did, did), "："), localizeOr("thing."+thing, thing))
	case last > 0 && slices.Contains([]string{"of", "from", "with"}, words[last]):
		return tr("doing.part", tr(verb), strings.Join(words[1:last], " "), thing)
	case catalog.Has("thing." + thing):
		return tr("doing.known", tr(verb), tr("thing."+thing))
	}
	return tr("doing", tr(verb), strings.Join(append(words[1:], thing), " "))
}

// conflictError is the error for a rejected change of an object that changed after this command read it.
type conflictError struct {
	*client.Problem
	text string
}

func (o conflictError) Error() string { return o.text }
func (o conflictError) Unwrap() error { return o.Problem }

// If an error means that the object changed after this command had read it, describeConflict adds to the error the author of that change
// and the command in see, which prints the current state. Any other error is returned unchanged.
func describeConflict(see string, err error) error {
	p := client.PreconditionFailed(err)
	if p == nil {
		return err
	}
	text := textOr(p.Current == nil, tr("overtaken.another_deleted"), tr("overtaken.another_changed"))
	if len(p.Changes) > 0 {
		last := p.Changes[0]
		did := tr("overtaken.changed", strings.Join(last.Fields, ", "))
		switch {
		case last.Action == "delete":
			did = tr("overtaken.deleted_it")
		case last.Action == "add":
			did = tr("overtaken.made_it")
		case len(last.Fields) == 0:
			did = tr("overtaken.changed_it")
		}
		text = tr("overtaken.actor", last.Actor, did, formatTime(last.OccurredAt))
	}
	return hintError{error: conflictError{p, text + tr("overtaken.after_this_command_had_read")},
		next: tr("overtaken.see_what_it_is_now") + see + tr("overtaken.then_run_the_command_again")}
}
