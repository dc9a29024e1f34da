package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// isNotFound reports whether the server responded that the named object does not exist.
func isNotFound(err error) bool { return isProblem(err, http.StatusNotFound) }

// isProblem reports whether the server returned an error with the given HTTP status.
func isProblem(err error, status int) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Status == status
}

// unknown returns the error for a name that is not in a list, with the most similar name and the command that prints the list.
func unknown(did, name, kind, list string, names ...string) error {
	return absent(hintError{error: fault("named.there_is_no_of_this", localizeOr("did."+did, did), name,
		localizeOr("thing."+kind, kind), didYouMean(name, names...)), next: tr("report.see", list)})
}

// named finds an object by its name; if no object has the name, the error suggests the most similar name. If err, the error of the read of
// the list, is not nil, named returns err.
func named[T any](list []T, err error, nameOf func(T) string, did, name, kind, see string) (item T, _ error) {
	if err != nil {
		return item, err
	}
	if i := slices.IndexFunc(list, func(item T) bool { return nameOf(item) == name }); i >= 0 {
		return list[i], nil
	}
	return item, unknown(did, name, kind, see, mapped(list, nameOf)...)
}

// withListCommand adds the action and the object to an error; if the object does not exist, the error also shows the command in see.
func withListCommand(did, thing, see string, err error) error {
	if isNotFound(err) {
		return hintError{error: failed(did, thing, err), next: tr("report.see", see)}
	}
	return failed(did, thing, err)
}

// withSuggestion adds the name of the affected object to an error; if no object has the name, withSuggestion suggests a similar
// name from the list.
func withSuggestion[T any](did, name string, err error, see string, list func() ([]T, error), nameOf func(T) string) error {
	if !isNotFound(err) {
		return failed(did, name, err)
	}
	meant := ""
	// If the list of existing objects cannot be read, the error is returned without a suggestion.
	if all, failure := list(); failure == nil {
		meant = didYouMean(name, mapped(all, nameOf)...)
	}
	return hintError{error: fmt.Errorf("%w%s", failed(did, name, err), meant), next: see}
}

// mapped converts every item of a list with the function show; the result is never nil.
func mapped[T, U any](list []T, show func(T) U) []U {
	shown := make([]U, 0, len(list))
	for _, item := range list {
		shown = append(shown, show(item))
	}
	return shown
}

// nearNumber suggests one of storedNumbers in place of an unknown number: the number with the most similar digits, else the nearest
// number. The result is "" if storedNumbers is empty.
func nearNumber(given int64, storedNumbers []int64) string {
	if len(storedNumbers) == 0 {
		return ""
	}
	if meant := didYouMean(number(given), mapped(storedNumbers, number)...); meant != "" {
		return meant
	}
	fn := func(n int64) int64 { return max(n-given, given-n) }
	return tr("named.the_nearest_is", slices.MinFunc(storedNumbers, func(a, b int64) int { return cmp.Compare(fn(a), fn(b)) }))
}

// confirmFlag is the --yes flag of commands that delete or stop something. Without the flag, these commands ask for confirmation on a
// terminal; elsewhere they return an error.
type confirmFlag struct{ Yes bool }

// inProduction reports whether the command uses a production context.
func (s *session) inProduction() bool {
	return s.named != nil && s.named.used != nil && s.named.used.Production
}

// confirmed asks for confirmation of a destructive action unless --yes is set. For a production context, the user must type the context's
// name, and --yes counts only with a typed --context, so that a command that was meant for another server deletes nothing.
func (e confirmFlag) confirmed(s *session, kind string) error {
	switch {
	case e.Yes && (!s.inProduction() || s.named.typed):
		return nil
	case s.inProduction():
		return confirmByName(s, kind, s.named.name, tr("named.add_context_and_yes", s.named.name))
	}
	return confirmed(s, kind, tr("named.add_yes"), tr("ask.go_on_y_n", plain(kind)), "y", "Y", "yes", "Yes", "YES")
}

// emulated adds the action to an error of the emulator API; if the server has no emulator, the error says so.
func emulated(did string, err error) error {
	if w, ok := errors.AsType[*client.WrongServer](err); ok && w.NoSuchCall {
		return exitError{hintError{error: fault("named.the_server_at_has_no", did, w.URL),
			next: tr("named.start_it_with_dev_or")}, exitRefused}
	}
	if err == nil {
		return nil
	}
	return fault("batch.of_2", did, err)
}

type searchCommand struct {
	operator
	Text    string `arg:""`
	Account string `placeholder:"APPID"`
}

// Run searches for objects that a text identifies completely or in part.
func (c *searchCommand) Run(s *session, qrjump *client.Client) error {
	found, err := qrjump.Search(s.ctx, client.SearchQuery{Text: c.Text, Account: c.Account})
	if err != nil {
		return failed("find", c.Text, err)
	}
	rest := textIf(len(found.Partial) > 0, tr("find.there_may_be_more_of")+strings.Join(found.Partial, ", ")+tr("find.enter_more_text"))
	empty := tr("find.none")
	if rest != "" {
		empty += tr("find.incomplete") + strings.Join(found.Partial, ", ")
	}
	return listing[client.SearchHit]{name: "hits", none: empty, more: rest, heads: []string{"KIND", "OBJECT", "NAME", "ACCOUNT"},
		row: func(h client.SearchHit) []string {
			return []string{h.Kind, plain(h.Key), orDash(plain(h.Name)), orDash(h.Account)}
		}}.print(s, c.outputFlags, found.Hits, nil)
}
