package codes

import (
	"regexp"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// The versions of a Mini Program that an activation can open. Contract: marketcode §3.4.
const (
	WxaRelease     = 0
	WxaDevelopment = 1
	WxaTrial       = 2
)

// Binding is the content of an activation: the page that a scan of the code opens, the activity and the product.
type Binding struct {
	ActivityName string
	ProductBrand string
	ProductTitle string
	ProductCode  string // usually an EAN, but any text is allowed
	WxaAppID     string
	WxaPath      string
	WxaType      int
}

var wxaAppID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,32}$`)

// check returns 40013 for a malformed AppID, and 40097 for any other invalid field. Contract: marketcode §3.4.
func (b Binding) check() error {
	for _, f := range []struct{ name, value string }{
		{"activity_name", b.ActivityName}, {"product_brand", b.ProductBrand}, {"product_title", b.ProductTitle},
		{"product_code", b.ProductCode}, {"wxa_path", b.WxaPath},
	} {
		if !accounts.IsPlain(f.value, 1, 128) {
			return errcode.InvalidArgs.WithDetail(behaviour.CodesActivateText, "%s invalid: want 1 to 128 characters", f.name)
		}
	}
	switch {
	case strings.TrimSpace(b.WxaPath) == "":
		// a blank path names no page: see docs/contract/rules.md, section 6, item 28
		return errcode.InvalidArgs.WithDetail(behaviour.CodesActivatePage, "wxa_path invalid: it is blank, and names no page")
	case b.WxaAppID == "":
		return errcode.InvalidArgs.WithDetail(behaviour.CodesActivateAppIDMissing, "wxa_appid is missing")
	case !wxaAppID.MatchString(b.WxaAppID):
		return errcode.InvalidAppID.WithDetail(behaviour.CodesActivateAppIDForm, "wxa_appid %.40q is no AppID", b.WxaAppID)
	case b.WxaType < WxaRelease || b.WxaType > WxaTrial:
		return errcode.InvalidArgs.WithDetail(behaviour.CodesActivateType, "wxa_type is %d: want 0, 1 or 2", b.WxaType)
	}
	return nil
}

// Version returns the version of the Mini Program that the binding opens, and whether a member with the role may open it; all users
// may open a release.
func (b Binding) Version(role accounts.Role) (v accounts.Version, allowed bool) {
	switch b.WxaType {
	case WxaDevelopment:
		return accounts.Development, role == accounts.Developer
	case WxaTrial:
		return accounts.Trial, role != ""
	}
	return accounts.Release, true
}

// Event is one change of codes of a batch, such as an activation, a deactivation or a freeze. Event numbers increase in commit order. A
// stored event never changes. The events that have taken effect for a code determine its state; events are applied in the order of From.
type Event struct {
	Seq     int64
	Batch   int64
	Action  EventType
	Codes   Set     // the affected codes; an activation has exactly one range
	Binding Binding // activations only
	// Renews is the whole range of the original activation, if the event renews only a part of that activation (see Retarget); nil = Codes
	// is the whole range.
	Renews     *Range
	OccurredAt time.Time // time of the call that stored the event
	From       time.Time // time at which the event takes effect: OccurredAt, or later if it was scheduled
	Actor      string    // AppID, or "admin"
	RID        string
	Note       string
}

// Activated returns the range of the call that activated the codes. Query responses return this range as code_start and code_end, and
// checkOverlap compares it with the range of a further activation.
func (e *Event) Activated() Range {
	if e.Renews != nil {
		return *e.Renews
	}
	return e.Codes.Bounds()
}

// EventType is the kind of an event.
type EventType string

// The kinds of events of codes.
const (
	Activate   EventType = "activate"
	Deactivate EventType = "deactivate" // ends the activation of the codes
	Freeze     EventType = "freeze"
	Unfreeze   EventType = "unfreeze"
	Void       EventType = "void" // for ever
	Redeem     EventType = "redeem"
	Import     EventType = "import"      // codes made elsewhere were imported
	UndoImport EventType = "undo_import" // imported codes were deleted (UndoImport)
	// EnterWrongPIN changes no state: PINCheck counts these events.
	EnterWrongPIN EventType = "wrong_pin"
)

// coverage maps each index to the activation that applies to it, as disjoint spans keyed by their first index. A look-up in coverage takes
// O(log n). A new range shortens, splits or removes the spans that it covers, so there are at most twice as many spans as calls.
type coverage struct {
	spans btree.Map[int64, span]
}

type span struct {
	to         int64
	activation *Event // nil: not active
}

// cover makes an event apply to a range.
func (c *coverage) cover(r Range, event *Event) {
	// If a span overlaps the start of the range, its part before the range stays, and so does a part after the end of the range.
	c.spans.Descend(r.From, func(from int64, s span) bool {
		if s.to < r.From {
			return false
		}
		if s.to > r.To {
			c.spans.Set(r.To+1, s)
		}
		if from < r.From {
			c.spans.Set(from, span{r.From - 1, s.activation})
		}
		return false
	})
	var starts []int64
	c.spans.Ascend(r.From, func(from int64, s span) bool {
		if from > r.To {
			return false
		}
		starts = append(starts, from)
		if s.to > r.To {
			c.spans.Set(r.To+1, s)
			return false
		}
		return true
	})
	for _, from := range starts {
		if from <= r.To {
			c.spans.Delete(from)
		}
	}
	c.spans.Set(r.From, span{r.To, event})
}

// apply applies an event that activates or deactivates codes.
func (c *coverage) apply(e *Event) {
	for _, r := range e.Codes {
		c.applyTo(e, r)
	}
}

// applyTo applies an activation or deactivation, the only events that can be scheduled, to a range of indexes.
func (c *coverage) applyTo(e *Event, r Range) {
	switch e.Action {
	case Activate:
		c.cover(r, e)
	case Deactivate:
		c.cover(r, nil)
	}
}

// eventAt returns the event that applies to an index, or nil.
func (c *coverage) eventAt(index int64) (event *Event) {
	c.spans.Descend(index, func(_ int64, s span) bool {
		if s.to >= index {
			event = s.activation
		}
		return false
	})
	return event
}

// activeIn lists the active subranges of a range with their activations, in index order.
func (c *coverage) activeIn(r Range) (list []ActiveRange) {
	add := func(from int64, s span) {
		if s.activation != nil && s.to >= r.From && from <= r.To {
			list = append(list, ActiveRange{Range{max(from, r.From), min(s.to, r.To)}, s.activation})
		}
	}
	c.spans.Descend(r.From-1, func(from int64, s span) bool {
		add(from, s)
		return false
	})
	c.spans.Ascend(r.From, func(from int64, s span) bool {
		if from > r.To {
			return false
		}
		add(from, s)
		return true
	})
	return list
}
