package adminroute

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Object identifies an object that a caller may have read before requesting a change.
type Object struct {
	Kind  string   // the object kind as named in the change log: account, rule, …
	Key   string   // identifier of the object within its kind
	Owner string   // for a rule: the account that must own it
	Parts []string // for objects whose parts have separate revisions: the parts that the call changes
}

// Changing is an operation input that identifies the object of the call. Operations with such an input accept If-Match, and other
// operations reject it; GET operations always ignore it.
type Changing interface{ Object() Object }

// Tagged is a response with one object whose revision is not in a field Revision of the response.
type Tagged interface{ ETag() string }

// TagOf returns the revision of the object in a response; "" = the response has no revision.
func TagOf(answer any) string {
	if item, is := answer.(Tagged); is {
		return item.ETag()
	}
	v := reflect.ValueOf(answer)
	if v.Kind() != reflect.Struct {
		return ""
	}
	if field := v.FieldByName("Revision"); field.IsValid() && field.Kind() == reflect.String {
		return field.String()
	}
	return ""
}

// tagged reports whether responses of a type have an ETag.
func tagged(answer reflect.Type) bool {
	if answer.Implements(reflect.TypeFor[Tagged]()) {
		return true
	}
	if answer.Kind() != reflect.Struct {
		return false
	}
	_, has := answer.FieldByName("Revision")
	return has
}

// Seen holds the preconditions of a call: the revisions that the caller has read.
type Seen struct {
	Tags         []string // the tags in If-Match, without quotes
	MustExist    bool     // If-Match: * — the object must exist
	MustNotExist bool     // If-None-Match: * — the object must not exist
	Repeatable   bool     // the call may be retried; false if its body is streamed
}

// Guard checks the preconditions of operations; the zero Guard checks nothing.
type Guard struct {
	// Run calls the function change only if the object fulfils the preconditions in saw; the check and the change are atomic. If a
	// precondition is false, Run returns an error that describes the current object.
	Run func(ctx context.Context, thing Object, saw Seen, change func(context.Context) (any, error)) (any, error)
	// Stale returns a context whose reads may be stale (Stale = nil: no read is stale). AsOf returns the time up to which reads with a
	// context contain all changes; zero = not stale.
	Stale func(context.Context) context.Context
	AsOf  func(context.Context) time.Time
	// Problem is the type of the error response for a failed precondition.
	Problem reflect.Type
}

type seenKey struct{}

// withSeen stores the precondition headers of a call in its context. A precondition that the operation cannot evaluate is an error,
// because RFC 9110 forbids a change if the precondition may be false.
func withSeen(hctx huma.Context, guards bool) (huma.Context, error) {
	var saw Seen
	given, unknown := false, false
	hctx.EachHeader(func(name, value string) {
		switch {
		case strings.EqualFold(name, "If-Match"):
			given = true
			tags, wildcard := tagsOf(value)
			saw.Tags, saw.MustExist = append(saw.Tags, tags...), saw.MustExist || wildcard
		case strings.EqualFold(name, "If-None-Match"):
			saw.MustNotExist = strings.TrimSpace(value) == "*"
			unknown = !saw.MustNotExist
		}
	})
	if (given || saw.MustNotExist || unknown) && !guards {
		return hctx, huma.Error400BadRequest("this operation has no preconditions: send it without If-Match and If-None-Match")
	}
	if unknown {
		return hctx, huma.Error400BadRequest("If-None-Match: want *, which creates an object only if it does not exist, or leave the header out")
	}
	if given && !saw.MustExist && len(saw.Tags) == 0 {
		return hctx, huma.Error400BadRequest(`If-Match is empty: want the revision that the last read returned, such as "Xk2s…", or leave the header out`)
	}
	if !given && !saw.MustNotExist {
		return hctx, nil
	}
	return huma.WithValue(hctx, seenKey{}, saw), nil
}

// tagsOf parses a list of entity tags. Weak tags (as some proxies send) and tags without quotes are accepted, because the revision
// is the same in every spelling.
func tagsOf(list string) (tags []string, wildcard bool) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(strings.TrimPrefix(strings.TrimSpace(name), "W/"), `"`)
		if name == "*" {
			wildcard = true
		} else if name != "" {
			tags = append(tags, name)
		}
	}
	return tags, wildcard
}

// guarded calls the function of an operation, after a check of the caller's preconditions if there are any.
func (e *edge) guarded(ctx context.Context, in any, call func(context.Context) (any, error)) (any, error) {
	saw, said := ctx.Value(seenKey{}).(Seen)
	if !said {
		return call(ctx)
	}
	_, arriving := in.(interface{ Arrived() })
	saw.Repeatable = !arriving
	return e.Guard.Run(ctx, in.(Changing).Object(), saw, call)
}
