package behaviour

import (
	"math/bits"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Deviation describes an action of a caller that this server accepts and that the platform may reject. Decision 37.
type Deviation struct {
	Row     Row
	Minds   Evidence // level of evidence that the platform rejects the action; Assumed = no source says that the platform rejects it
	Refusal int      // error code that strict mode returns; 0 = strict mode does not change this behaviour
}

// Advice returns the recommended change in the calling program; the text is empty if the field Row is NoRow.
func (d Deviation) Advice() i18n.Message {
	if d.Row == NoRow {
		return i18n.Message{}
	}
	return book.Text("advice." + d.Row.String())
}

// closed lists the deviations that are rejected even without strict mode, unless the operator allows them.
var closed = map[Row]bool{
	ComponentReauthorized: true, RulesGetByGET: true, RulesEditKeepsEmpty: true, LinkOwnTaken: true,
	CodesActivateOverlapTaken: true, CodesQueryIndexTaken: true, CodesQueryBare: true, CodesTicketToken: true,
}

// delayed lists the deviations that strict mode delays instead of rejecting.
var delayed = map[Row]bool{LinkAtOnce: true, LinkEndAtOnce: true}

// rejections lists the behaviours that only an operator override can change. The value is the error code that the server returns if the
// override rejects the behaviour; 0 = the override selects the alternative behaviour, without an error. Strict mode does not change these
// behaviours, because none of them is a deviation for which strict mode has an error code.
var rejections = map[Row]int{
	RulesPublishAgain: 0, RulesEditKeeps: 0, RulesEditUnchecked: 0, TokenStableSoon: 0, CodesGate: 0,
	WireBodyNone: 44002, RulesPrefixUnknown: 47001, RulesPath: 47001, RulesAddOwned: 85071, RulesAddOccupied: 85071, WireNumberForm: 47001,
}

// Rejection returns turns = true if only an operator override can change the behaviour. number is the error code that the server returns if
// the override rejects the behaviour; 0 = the server uses the alternative behaviour, without an error.
func (r Row) Rejection() (number int, turns bool) {
	number, turns = rejections[r]
	return number, turns
}

// Changeable reports whether strict mode or an operator override can change the behaviour.
func (r Row) Changeable() bool {
	if d := deviationOf[r]; d != nil && (d.Refusal != 0 || delayed[r] || closed[r]) {
		return true
	}
	_, turns := rejections[r]
	return turns
}

// Closed reports whether the deviation is rejected unless the operator allows it.
func (d Deviation) Closed() bool { return closed[d.Row] }

// Changeable reports whether strict mode or an operator override can change the behaviour of the deviation's row.
func (d Deviation) Changeable() bool { return d.Row.Changeable() }

// Waits reports whether strict mode delays the action instead of rejecting it.
func (d Deviation) Waits() bool { return delayed[d.Row] }

// deviations lists the behaviours that count as deviations, in the order of the behaviour tables.
var deviations = []Deviation{
	{WirePathForm, Assumed, 40066},
	{WireMethodTaken, Assumed, 0},
	{WireBodyEmptyAccepted, Observed, 44002},
	{WireBodyType, Assumed, 47001},
	{WireFieldNull, Assumed, 40097},
	{WireFieldUnknown, Assumed, 40097},
	{WireFieldQuery, Assumed, 40097},
	{WireNumberText, Assumed, 40097},
	{WireNumberFloat, Assumed, 40097},
	{WireListText, Assumed, 40097},
	{WireFlagWord, Assumed, 40097},
	{WireTextNumber, Assumed, 40097},
	{WireFieldDoubled, Assumed, 40097},
	{WireRateAbove, Documented, 44990},
	{WireLimitAbove, Documented, 45009},
	{WireRetry, Assumed, 0},

	{CallerAddressUnlisted, Documented, 40164},
	{TokenAgain, Documented, 0},
	{TokenStableSoon, Documented, 0},
	{ComponentReauthorized, Inferred, 40001},
	{ComponentListDefault, Documented, 40097},
	{ComponentTicketOlder, Assumed, 0},
	{MessageSlow, Assumed, 0},

	{CodesApplyAbove, Documented, 40097},
	{CodesApplyAgain, Assumed, 80307},
	{CodesRangePart, Inferred, 80310},
	{CodesActivateAgain, Assumed, 80302},
	{CodesActivateOverlapTaken, Inferred, 80302},
	{CodesActivateUnlinkedTaken, Assumed, 40097},
	{CodesActivatePersonal, Assumed, 40097},
	{CodesActivatePathSlash, Assumed, 40097},
	{CodesActivatePathUnasked, Assumed, 0},
	{CodesActivatePathUnknown, Inferred, 40097},
	{CodesActivateProductCode, Assumed, 40097},
	{CodesQueryTwo, Inferred, 40097},
	{CodesQueryForm, Assumed, 80303},
	{CodesQueryIndexTaken, Assumed, 40097},
	{CodesQueryBare, Inferred, 80304},
	{CodesTicketToken, Inferred, 41001},
	{CodesTicketAgain, Assumed, 0},

	{RulesPathUnasked, Assumed, 0},
	{RulesPathUnknown, Inferred, 40097},
	{RulesPathSlash, Assumed, 40097},
	{RulesAddUnreleased, Assumed, 40097},
	{RulesTestLinkForm, Assumed, 85068},
	{RulesPrefixEncoded, Assumed, 85066},
	{RulesPrefixCase, Assumed, 85066},
	{RulesAddMadeElsewhere, Assumed, 85066},
	{RulesAddAbove, Documented, 85073},
	{RulesPrefixPrivate, Inferred, 85066},
	{RulesPrefixPortTaken, Observed, 85066},
	{RulesPrefixNewerTaken, Observed, 85066},
	{RulesAddICPUnasked, Assumed, 85076},
	{RulesConfirmVouched, Assumed, 85069},
	{RulesConfirmTrim, Assumed, 85069},
	{RulesConfirmFragment, Assumed, 0},
	{RulesEditKeepsEmpty, Assumed, 0},
	{RulesEditKeeps, Assumed, 0},
	{RulesEditUnchecked, Assumed, 0},
	{RulesGetAll, Documented, 40097},
	{RulesGetByGET, Documented, 43002},
	{RulesPublishAbove, Observed, 886000},
	{RulesPublishService, Assumed, 886000},
	{RulesPublishClosed, Assumed, 0},
	{RulesDeleteUnlinked, Documented, 0},
	{RulesPublishAgain, Assumed, 0},
	{LinkAtOnce, Documented, 0},
	{LinkEndAtOnce, Documented, 0},
	{LinkOwnTaken, Inferred, 48001},
	{LinkEndAbsent, Assumed, 0},
	{QRCodeLifeIgnored, Assumed, 40097},
}

// deviant is a bit set of the rows that have a deviation; deviationOf maps each such row to its entry in deviations.
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

// Deviations returns all deviations.
func Deviations() []Deviation { return deviations }

// Deviation returns the deviation of a row; ok is false if the row has none.
func (r Row) Deviation() (d Deviation, ok bool) {
	if found := deviationOf[r]; found != nil {
		return *found, true
	}
	return Deviation{}, false
}

// Deviates reports whether any row in the set has a deviation.
func (n *Notes) Deviates() bool {
	for i := range n.rows {
		if n.rows[i].Load()&deviant[i] != 0 {
			return true
		}
	}
	return false
}

// EachDeviation calls f with every row in the set that has a deviation, in the order of the behaviour table.
func (n *Notes) EachDeviation(f func(Row)) {
	for i := range n.rows {
		for left := n.rows[i].Load() & deviant[i]; left != 0; left &= left - 1 {
			f(Row(i*64 + bits.TrailingZeros64(left)))
		}
	}
}
