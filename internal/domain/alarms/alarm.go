// Package alarms detects copied or reused codes from their scans.
package alarms

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
)

// ErrNoAlarm is returned if the requested alarm does not exist.
var ErrNoAlarm = errors.New("alarms: no such alarm")

// The kinds of alarms.
const (
	// Copied: the code appears to be on more than one item.
	Copied = "copied"
	// Spoiled: a printer reported the code as destroyed, but the code was scanned. If a spoiled code is scanned, it was printed a second
	// time or was not destroyed.
	Spoiled = "spoiled"
	// BeforeActivation: many users scanned the code although it was never activated.
	BeforeActivation = "before_activation"
	// AfterRedemption: many users scanned the code after it was redeemed.
	AfterRedemption = "after_redemption"
	// UnknownBurst: within an hour, many different texts were scanned that have a prefix of codes but belong to no code.
	UnknownBurst = "unknown_burst"
	// ManyCodes: one user scanned many different codes of an application within an hour.
	ManyCodes = "many_codes"
)

// scoredKinds lists the kinds of alarms that are raised if their score reaches the threshold of the batch.
var scoredKinds = [...]struct {
	kind  string
	score func(*Scans) int
}{
	{Copied, (*Scans).Score},
	{BeforeActivation, func(c *Scans) int { return userPoints(&c.early) }},
	{AfterRedemption, func(c *Scans) int { return userPoints(&c.late) }},
}

// userPoints returns the points for the users who scanned a code before its activation, or after its redemption. With 29 points for each
// doubling, the thresholds that fit Score also fit these points, see docs/alarms.md.
func userPoints(users *hyperloglog.Users) int {
	return int(29 * math.Log2(max(1, float64(users.Count()))))
}

// The states of an alarm; a code, prefix or user without an alarm can be in the state StateWatch. StateOpen selects all alarms that are
// not dismissed.
const (
	StateWatch      = "watch"      // the score is at least two thirds of the threshold
	StateSuspicious = "suspicious" // an alarm is open
	StateConfirmed  = "confirmed"  // an operator confirmed an open alarm
	StateDismissed  = "dismissed"
	StateOpen       = "open"
)

// The decisions of an operator about an alarm, by their names in the audit log.
const (
	Confirm = "confirm"
	Dismiss = "dismiss"
	Assign  = "assign" // puts the alarm into a case
)

// Alarm reports a suspected problem of a code, derived from its scans. An alarm is open until it is dismissed. Each code has at
// most one open alarm of each kind.
type Alarm struct {
	ID   int64 // 0 = there is no alarm, and the code, prefix or user is in the state StateWatch
	Kind string
	// CodeName has a negative Index if the alarm is about a prefix or a user: a hash of the prefix or the user. Its Batch is 0 if
	// batches of several accounts have the prefix.
	CodeName
	CreatedAt      time.Time // time of the scan that raised the alarm
	Scan           string    // id of the scan that raised the alarm
	Score          int64
	Details        Details
	AcknowledgedAt time.Time // zero = not acknowledged
	AcknowledgedBy string
	ConfirmedAt    time.Time // time at which an operator declared the alarm justified; zero = not confirmed
	ConfirmedBy    string
	Confirmation   int64 // ID of the confirmation, from the same sequence as alarm IDs; 0 = not confirmed
	// DismissedAt is the time at which an operator declared the code genuine; zero = the alarm is open.
	DismissedAt time.Time
	DismissedBy string
	Note        string // note of an acknowledgement, or reason for the dismissal
	Case        Case   // the case that groups the alarm with others; zero = none
	AssignedAt  time.Time
	Assignment  int64 // ID of the change that put the alarm into its case, from the same sequence as alarm IDs; 0 = no case
	Dismissal   int64 // ID of the dismissal, from the same sequence as alarm IDs; 0 = not dismissed
}

// Acknowledgement is a change that an operator makes to an alarm. A nil field leaves the stored value unchanged, "" removes it.
type Acknowledgement struct {
	Confirm bool     // also declares the alarm justified
	Case    *int64   // ID of the case that the alarm is put into; 0 = no case
	Owners  []string // only cases of these accounts; empty = any
	Note    *string
}

// CodeIndex returns the index of the alarm's code; -1 = the alarm is about a prefix or a user.
func (a Alarm) CodeIndex() int64 { return max(a.Index, -1) }

// State returns the state of the alarm.
func (a Alarm) State() string {
	switch {
	case !a.DismissedAt.IsZero():
		return StateDismissed
	case !a.ConfirmedAt.IsZero():
		return StateConfirmed
	case a.ID == 0:
		return StateWatch
	}
	return StateSuspicious
}

// StateOf returns the state of a code with the given open alarms, score and threshold; "" = no suspicion.
func StateOf(open []Alarm, score, threshold int64) string {
	switch {
	case slices.ContainsFunc(open, func(a Alarm) bool { return a.State() == StateConfirmed }):
		return StateConfirmed
	case len(open) > 0:
		return StateSuspicious
	case threshold != NoAlarm && 3*score >= 2*threshold:
		return StateWatch
	}
	return ""
}

// Query selects alarms; the zero value selects all.
type Query struct {
	After        int64     // only alarms with a higher ID
	Before       int64     // only alarms with a lower ID; 0 = any
	Newest       bool      // newest first
	State        string    // StateOpen, StateDismissed, StateSuspicious, StateConfirmed or StateWatch; "" = any alarm
	Acknowledged string    // only alarms that are acknowledged ("true") or not ("false"); "" = any
	Case         int64     // only alarms of this case; 0 = any
	Assignee     string    // only alarms of cases of this person; "" = any
	Batch        int64     // only alarms of the batch with this ID; 0 = any
	Owners       []string  // only alarms of applications of these accounts; empty = any
	Code         *CodeName // only alarms of this code; nil = any
	Limit        int
}

// StateChange is the event that an alarm was raised, confirmed, put into a case or dismissed.
type StateChange struct {
	Number   int64
	Decision string // Confirm, Dismiss or Assign; "" = the alarm was raised
	At       time.Time
	Alarm
}

// Details holds statistics of the code's scans at the time of the alarm.
type Details = client.AlarmDetails

// Score rates how likely the code is on more than one item; a score at or above the threshold of the batch raises an alarm.
func (c *Scans) Score() int {
	points := 0.0
	// A genuine item is scanned by few users: the buyer, the family, a shop.
	if users := float64(c.Users.Count()); users > 3 {
		points += 33 * math.Log2(users/3)
	}
	if c.Networks > 4 {
		points += 12 * math.Log2(float64(c.Networks)/4)
	}
	// A genuine item travels once or twice: from the factory to the shop to a home.
	if c.Regions > 2 {
		points += 27 * math.Log2(float64(c.Regions)/2)
	}
	// A genuine item cannot be in two places at once. The location of a mobile network may be wrong, so a trip with a mobile scan
	// counts half.
	points += 51 * math.Log2(1+float64(c.Trips)-float64(c.MobileTrips)/2)
	return int(points)
}

func (c *Scans) details() Details {
	return Details{Scans: c.Scans, Users: c.Users.Count(), Networks: c.Networks, Regions: c.Regions, ImpossibleTravelCount: c.Trips,
		Days: c.Days, UsersBeforeActivation: c.early.Count(), UsersAfterRedemption: c.late.Count()}
}

const (
	// maxSpeed is the speed of an airliner, in kilometres per hour.
	maxSpeed = 1000
	// locationTolerance is the tolerated error of a location in the region file, in kilometres.
	locationTolerance = 200
	// regionChange is the minimum travel time to another region, used if the coordinates of the regions are unknown.
	regionChange = 20 * time.Minute
)

// isImpossibleTrip reports whether an item cannot have travelled from one place to the other within ms milliseconds.
func isImpossibleTrip(from, to Place, ms int64) bool {
	if from.Known && to.Known {
		km := distance(from, to)
		return km > locationTolerance && km-locationTolerance > maxSpeed*float64(ms)/3_600_000
	}
	return from.Region != "" && to.Region != "" && from.Region != to.Region && ms < regionChange.Milliseconds()
}

// distance returns the distance between two places on the earth, in kilometres.
func distance(a, b Place) float64 {
	const radius, degree = 6371, math.Pi / 180
	dy, dx := (b.Lat-a.Lat)*degree/2, (b.Lon-a.Lon)*degree/2
	h := math.Sin(dy)*math.Sin(dy) + math.Cos(a.Lat*degree)*math.Cos(b.Lat*degree)*math.Sin(dx)*math.Sin(dx)
	return 2 * radius * math.Asin(math.Min(1, math.Sqrt(h)))
}
