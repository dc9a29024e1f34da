package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/qrjump/qrjump/client"
)

// isNotFound reports whether a server said that what was named is not there.
func isNotFound(err error) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Status == http.StatusNotFound
}

// isProblem reports whether a server refused with a status.
func isProblem(err error, status int) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Status == status
}

// unknown returns the error of a name that none of a list is: it says which one may be
// meant, and where the list is.
func unknown(did, name, kind, list string, names ...string) error {
	return absent(hintError{error: fault("named.there_is_no_of_this", maybeSaid("did."+did, did), name,
		maybeSaid("thing."+kind, kind), didYouMean(name, names...)), next: said("report.see", list)})
}

// named finds a thing by its name; it is absent, with the nearest name, where there
// is none.
func named[T any](list []T, nameOf func(T) string, did, name, kind, see string) (T, error) {
	if i := slices.IndexFunc(list, func(item T) bool { return nameOf(item) == name }); i >= 0 {
		return list[i], nil
	}
	var value T
	return value, unknown(did, name, kind, see, namesOf(list, nameOf)...)
}

// seeList adds to the error of a thing that is not there where all of them are.
func seeList(did, thing, see string, err error) error {
	if isNotFound(err) {
		return hintError{error: failed(did, thing, err), next: said("report.see", see)}
	}
	return failed(did, thing, err)
}

// about names the thing that an error is about; where there is none of the name, it asks which one of a list may be meant.
func about[T any](did, name string, err error, see string, list func() ([]T, error), nameOf func(T) string) error {
	if !isNotFound(err) {
		return failed(did, name, err)
	}
	meant := ""
	if all, failure := list(); failure == nil { // the answer stands without a guess too
		meant = didYouMean(name, namesOf(all, nameOf)...)
	}
	return hintError{error: fmt.Errorf("%w%s", failed(did, name, err), meant), next: see}
}

func namesOf[T any](list []T, nameOf func(T) string) []string {
	names := []string{}
	for _, item := range list {
		names = append(names, nameOf(item))
	}
	return names
}

// nearNumber says which of the numbers that storedNumbers are may be meant by one that is not: the one
// that is written most like it, else the nearest. It is "" where storedNumbers are none.
func nearNumber(given int64, storedNumbers []int64) string {
	if len(storedNumbers) == 0 {
		return ""
	}
	if meant := didYouMean(number(given), namesOf(storedNumbers, number)...); meant != "" {
		return meant
	}
	fn := func(n int64) int64 { return max(n-given, given-n) }
	return said("named.the_nearest_is", slices.MinFunc(storedNumbers, func(a, b int64) int { return cmp.Compare(fn(a), fn(b)) }))
}

// ending is of a verb that deletes or stops something: it asks on a terminal, and wants --yes elsewhere.
type ending struct{ Yes bool }

// confirmed asks whether to do what ends something, unless --yes was said. A context of production has its name asked for,
// and --yes counts only beside --context: what was meant for another server ends nothing there.
func (e ending) confirmed(s *session, kind string) error {
	resolver := s.named
	production := resolver != nil && resolver.used != nil && resolver.used.Production
	switch {
	case e.Yes && (!production || resolver.typed):
		return nil
	case production:
		return agreedByName(s, kind, resolver.name, said("named.say_context_and_yes", resolver.name))
	}
	return agreed(s, kind, said("named.say_yes_as_well"))
}

// emulated says of a call of the emulator that its server has none.
func emulated(did string, err error) error {
	if w, ok := errors.AsType[*client.WrongServer](err); ok && w.NoSuchCall {
		return exitError{hintError{error: fault("named.the_server_at_has_no", did, w.URL),
			next: said("named.start_it_with_dev_or")}, exitRefused}
	}
	if err == nil {
		return nil
	}
	return fault("batch.of_2", did, err)
}
