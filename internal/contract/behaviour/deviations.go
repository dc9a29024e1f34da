package behaviour

import (
	"math/bits"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Deviation is what makes a row one that a caller may stumble over on the platform:
// the caller did something that this server lets pass. Decision 37.
type Deviation struct {
	Row     Row
	Minds   Mark // how sure it is that the platform minds; Choice = nothing says so
	Refusal int  // the number that strict answers; 0 = strict cannot turn the row
}

// Advice is what to change in the caller; nothing for a row without a deviation.
func (d Deviation) Advice() i18n.Text {
	if d.Row == None {
		return i18n.Text{}
	}
	return book.Text("advice." + d.Row.String())
}

// closed are rejected, also without strict, unless the operator allows them.
var closed = map[Row]bool{
	ComponentReauthorized: true, RulesGetByGET: true, RulesEditKeepsEmpty: true, LinkOwnTaken: true,
	CodesActivateOverlapTaken: true, CodesQueryIndexTaken: true, CodesQueryBare: true, CodesTicketToken: true,
}

// held are let wait by strict, which refuses nothing there.
var held = map[Row]bool{LinkAtOnce: true, LinkEndAtOnce: true}

// otherwise are rows that the operator alone turns: what they refuse is refused with this number then, and where it is 0 they are
// done the other way. Strict leaves them, since they let nothing pass that it could refuse.
var otherwise = map[Row]int{
	RulesPublishAgain: 0, RulesEditKeeps: 0, RulesEditUnchecked: 0, TokenStableSoon: 0, CodesGate: 0,
	WireBodyNone: 44002, RulesPrefixUnknown: 47001, RulesPath: 47001, RulesAddOwned: 85071, RulesAddOccupied: 85071, WireNumberForm: 47001,
}

// Otherwise reports whether the operator alone turns the row, and with which number it refuses then; 0 = it is done the other way.
func (r Row) Otherwise() (number int, turns bool) {
	number, turns = otherwise[r]
	return number, turns
}

// Turns reports whether strict, or the operator, can decide otherwise.
func (r Row) Turns() bool {
	if d := deviationOf[r]; d != nil && (d.Refusal != 0 || held[r] || closed[r]) {
		return true
	}
	_, turns := otherwise[r]
	return turns
}

// Closed reports whether the row is refused unless the operator turns it.
func (d Deviation) Closed() bool { return closed[d.Row] }

// Turns reports whether strict, or the operator, can decide otherwise.
func (d Deviation) Turns() bool { return d.Row.Turns() }

// Waits reports whether a turned row lets wait.
func (d Deviation) Waits() bool { return held[d.Row] }

// deviations are the rows with a deviation, in the order of the tables.
var deviations = []Deviation{
	{WirePathForm, Choice, 40066},
	{WireMethodTaken, Choice, 0},
	{WireBodyEmptyAccepted, Seen, 44002},
	{WireBodyType, Choice, 47001},
	{WireFieldNull, Choice, 40097},
	{WireFieldUnknown, Choice, 40097},
	{WireFieldQuery, Choice, 40097},
	{WireNumberText, Choice, 40097},
	{WireNumberFloat, Choice, 40097},
	{WireListText, Choice, 40097},
	{WireFlagWord, Choice, 40097},
	{WireTextNumber, Choice, 40097},
	{WireFieldDoubled, Choice, 40097},
	{WireRateAbove, Page, 44990},
	{WireLimitAbove, Page, 45009},
	{WireRetry, Choice, 0},

	{CallerAddressUnlisted, Page, 40164},
	{TokenAgain, Page, 0},
	{TokenStableSoon, Page, 0},
	{ComponentReauthorized, Inferred, 40001},
	{ComponentListDefault, Page, 40097},
	{ComponentTicketOlder, Choice, 0},
	{MessageSlow, Choice, 0},

	{CodesApplyAbove, Page, 40097},
	{CodesApplyAgain, Choice, 80307},
	{CodesRangePart, Inferred, 80310},
	{CodesActivateAgain, Choice, 80302},
	{CodesActivateOverlapTaken, Inferred, 80302},
	{CodesActivateUnlinkedTaken, Choice, 40097},
	{CodesActivatePersonal, Choice, 40097},
	{CodesActivatePathSlash, Choice, 40097},
	{CodesActivatePathUnasked, Choice, 0},
	{CodesActivatePathUnknown, Inferred, 40097},
	{CodesActivateProductCode, Choice, 40097},
	{CodesQueryTwo, Inferred, 40097},
	{CodesQueryForm, Choice, 80303},
	{CodesQueryIndexTaken, Choice, 40097},
	{CodesQueryBare, Inferred, 80304},
	{CodesTicketToken, Inferred, 41001},
	{CodesTicketAgain, Choice, 0},

	{RulesPathUnasked, Choice, 0},
	{RulesPathUnknown, Inferred, 40097},
	{RulesPathSlash, Choice, 40097},
	{RulesAddUnreleased, Choice, 40097},
	{RulesTestLinkForm, Choice, 85068},
	{RulesPrefixEncoded, Choice, 85066},
	{RulesPrefixCase, Choice, 85066},
	{RulesAddMadeElsewhere, Choice, 85066},
	{RulesAddAbove, Page, 85073},
	{RulesPrefixPrivate, Inferred, 85066},
	{RulesPrefixPortTaken, Seen, 85066},
	{RulesPrefixNewerTaken, Seen, 85066},
	{RulesAddICPUnasked, Choice, 85076},
	{RulesConfirmVouched, Choice, 85069},
	{RulesConfirmTrim, Choice, 85069},
	{RulesConfirmFragment, Choice, 0},
	{RulesEditKeepsEmpty, Choice, 0},
	{RulesEditKeeps, Choice, 0},
	{RulesEditUnchecked, Choice, 0},
	{RulesGetAll, Page, 40097},
	{RulesGetByGET, Page, 43002},
	{RulesPublishAbove, Seen, 886000},
	{RulesPublishService, Choice, 886000},
	{RulesPublishClosed, Choice, 0},
	{RulesDeleteUnlinked, Page, 0},
	{RulesPublishAgain, Choice, 0},
	{LinkAtOnce, Page, 0},
	{LinkEndAtOnce, Page, 0},
	{LinkOwnTaken, Inferred, 48001},
	{LinkEndAbsent, Choice, 0},
	{QRCodeLifeIgnored, Choice, 40097},
}

// deviant has the bits of the rows with a deviation, deviationOf their entries.
var (
	deviant     [maxRows / 64]uint64
	deviationOf [maxRows]*Deviation
)

func init() {
	for i, d := range deviations {
		deviant[d.Row/64] |= 1 << (d.Row % 64)
		deviationOf[d.Row] = &deviations[i]
	}
}

// Deviations are all of them.
func Deviations() []Deviation { return deviations }

// Deviation is the deviation of a row; ok is false for a row that has none.
func (r Row) Deviation() (d Deviation, ok bool) {
	if found := deviationOf[r]; found != nil {
		return *found, true
	}
	return Deviation{}, false
}

// Deviates reports whether a caller deviated.
func (n *Notes) Deviates() bool {
	for i := range n.rows {
		if n.rows[i].Load()&deviant[i] != 0 {
			return true
		}
	}
	return false
}

// EachDeviation calls f with every row noted that has a deviation, in the order of
// the table.
func (n *Notes) EachDeviation(f func(Row)) {
	for i := range n.rows {
		for left := n.rows[i].Load() & deviant[i]; left != 0; left &= left - 1 {
			f(Row(i*64 + bits.TrailingZeros64(left)))
		}
	}
}
