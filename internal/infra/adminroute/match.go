package adminroute

import (
	"context"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Thing is an object that a caller may have read before it asks for a change.
type Thing struct {
	Kind  string   // a word of the log of changes: account, rule, …
	Key   string   // which one
	Owner string   // of a rule: whose it must be
	Parts []string // of things that are compared each by itself: which of them the call changes
}

// Changing is an input that says which thing its call concerns: an operation with such an input takes If-Match, unless it is a GET.
// Every other one that is no GET rejects the header.
type Changing interface{ Thing() Thing }

// Tagged is an answer that shows one thing whose revision is no field of its own.
type Tagged interface{ ETag() string }

// TagOf returns the revision of what an answer shows, another once the thing is another; "" =
// it shows no thing that has one.
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

// tagged reports whether answers of a type have a tag.
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

// Seen is the revision of an object that a caller declares to have read.
type Seen struct {
	Tags       []string // of If-Match, without their quotes
	Some       bool     // If-Match: * — whatever there is
	None       bool     // If-None-Match: * — there was nothing
	Repeatable bool     // the call may be run again; false where its body is read as it comes
}

// Guard compares the declared revisions of a table; the zero Guard compares nothing.
type Guard struct {
	// Run makes a change only where the thing is what the caller saw, at the moment of the
	// change itself; else its error is the problem that says what became of the thing.
	Run func(ctx context.Context, thing Thing, saw Seen, change func(context.Context) (any, error)) (any, error)
	// Problem is the type of that problem.
	Problem reflect.Type
}

type seenKey struct{}

// withSeen keeps what the headers of a call say for the function that runs it. A precondition that the operation cannot evaluate is
// an error: RFC 9110 allows no change where it may be false.
func withSeen(hctx huma.Context, guards bool) (huma.Context, error) {
	var saw Seen
	given, unknown := false, false
	hctx.EachHeader(func(name, value string) {
		switch {
		case strings.EqualFold(name, "If-Match"):
			given = true
			tags, any := tagsOf(value)
			saw.Tags, saw.Some = append(saw.Tags, tags...), saw.Some || any
		case strings.EqualFold(name, "If-None-Match"):
			saw.None = strings.TrimSpace(value) == "*"
			unknown = !saw.None
		}
	})
	if (given || saw.None || unknown) && !guards {
		return hctx, huma.Error400BadRequest("this call compares no revision: send it without If-Match and If-None-Match")
	}
	if unknown {
		return hctx, huma.Error400BadRequest("If-None-Match: want *, for what does not exist yet, or leave the header out")
	}
	if given && !saw.Some && len(saw.Tags) == 0 {
		return hctx, huma.Error400BadRequest(`If-Match is empty: want the revision that was read, such as "Xk2s…", or leave the header out`)
	}
	if !given && !saw.None {
		return hctx, nil
	}
	return huma.WithValue(hctx, seenKey{}, saw), nil
}

// tagsOf reads a list of tags. Tags that a proxy made weak, and such that came without
// quotes, are taken: a revision says the same in each spelling.
func tagsOf(list string) (tags []string, any bool) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(strings.TrimPrefix(strings.TrimSpace(name), "W/"), `"`)
		if name == "*" {
			any = true
		} else if name != "" {
			tags = append(tags, name)
		}
	}
	return tags, any
}

// guarded calls the function of an operation, where the caller saw something only if that
// still is.
func (e *edge) guarded(ctx context.Context, in any, call func(context.Context) (any, error)) (any, error) {
	saw, said := ctx.Value(seenKey{}).(Seen)
	if !said {
		return call(ctx)
	}
	_, arriving := in.(interface{ Arrived() })
	saw.Repeatable = !arriving
	return e.guard.Run(ctx, in.(Changing).Thing(), saw, call)
}

// describeMatch says in the document what If-Match does, and which answer has a tag.
func (e *edge) describeMatch(h *huma.Operation, out reflect.Type, matches string) {
	if matches != "" && e.guard.Run != nil {
		text := &huma.Schema{Type: huma.TypeString}
		h.Parameters = append(h.Parameters,
			&huma.Param{Name: "If-Match", In: "header", Schema: text, Example: `"Xk2sQ0b7mE4uJ1pVt9aLhw"`,
				Description: "The `revision` that was read of the " + matches + ", in quotes: where it is another meanwhile, nothing is changed and " +
					"the answer is 412. `*`: any, where there is one. Left out: whatever it is, it is changed."},
			&huma.Param{Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"*"}},
				Description: "`*`: only where there is none yet."})
		if h.Responses == nil {
			h.Responses = map[string]*huma.Response{}
		}
		problem := e.api.OpenAPI().Components.Schemas.Schema(e.guard.Problem, true, "")
		h.Responses["412"] = &huma.Response{
			Description: "It is another than the one that was read, and nothing was changed: who changed what, and how it is now",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}}}
	}
	if tagged(out) && h.Responses["200"] != nil {
		h.Responses["200"].Headers = map[string]*huma.Param{"ETag": {Schema: &huma.Schema{Type: huma.TypeString},
			Description: "its `revision`, for If-Match"}}
	}
}
