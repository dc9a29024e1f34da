// Package alarms says what is wrong with a code, by its scans.
package alarms

import (
	"errors"
	"math"
	"time"
)

// ErrNoAlarm is returned where no alarm has a number.
var ErrNoAlarm = errors.New("alarms: no such alarm")

// The kinds of alarms.
const (
	// Copied: the code stands on more than one item.
	Copied = "copied_code"
	// Spoiled: a printer said that it destroyed the code, and yet it was scanned. It was printed a
	// second time, or was not destroyed.
	Spoiled = "spoiled_code"
)

// Alarm says what is wrong with a code by its scans. An alarm is open until it is dismissed. For each code and kind at most one
// alarm stands.
type Alarm struct {
	ID   int64
	Kind string
	CodeName
	At     time.Time // of the scan that gave rise to it
	Scan   string    // its id
	Score  int64
	Why    Details
	SeenAt time.Time // zero = not acknowledged
	SeenBy string
	// DismissedAt is the time at which an operator declared the code genuine; zero = the alarm is open.
	DismissedAt time.Time
	DismissedBy string
	Note        string // why it was dismissed
	Dismissal   int64  // the number of the dismissal, of the sequence that alarms have; 0 = it stands
}

// Query says which alarms are wanted; the zero value means all.
type Query struct {
	After    int64     // only alarms after this number
	Before   int64     // only alarms before this number; 0 = any
	Newest   bool      // newest first
	Open     bool      // only those that are neither acknowledged nor dismissed
	Standing bool      // only those that are not dismissed
	Batch    int64     // only of this batch; 0 = of any
	Owners   []string  // only of applications of these accounts; none = of any
	Code     *CodeName // only of this code
	Limit    int
}

// News says that an alarm was raised, or that one was dismissed.
type News struct {
	Number    int64
	Dismissed bool
	Alarm
}

// Details are the state of the code's scans at the time of the alarm.
type Details struct {
	Scans                 int64 `json:"scans"`
	Users                 int64 `json:"users"`
	Networks              int   `json:"networks"`
	Regions               int   `json:"regions"`
	ImpossibleTravelCount int   `json:"impossible_travel_count"`
	Days                  int   `json:"days"`
}

// Score says how much the scans of a code look as if it stood on more than one item; a score of the
// batch's threshold or more raises an alarm.
func (c *Scans) Score() int {
	points := 0.0
	// An item is in few hands: its buyer's, their family's, a shop's.
	if users := float64(c.Users.Count()); users > 3 {
		points += 33 * math.Log2(users/3)
	}
	if c.Networks > 4 {
		points += 12 * math.Log2(float64(c.Networks)/4)
	}
	// It travels once or twice: from the works to the shop to a home.
	if c.Regions > 2 {
		points += 27 * math.Log2(float64(c.Regions)/2)
	}
	// It cannot be in two places at once.
	points += 51 * math.Log2(1+float64(c.Trips))
	return int(points)
}

func (c *Scans) reasons() Details {
	return Details{Scans: c.Scans, Users: c.Users.Count(), Networks: c.Networks, Regions: c.Regions, ImpossibleTravelCount: c.Trips,
		Days: c.Days}
}

const (
	// fastest is the speed of an airliner, in kilometres an hour.
	fastest = 1000
	// nearby is by how many kilometres the region file may be wrong.
	nearby = 200
	// regionChange is the least time that it takes to get to another region, where the coordinates
	// of regions are not known.
	regionChange = 20 * time.Minute
)

// tooFar reports whether an item cannot have come from one place to the other
// in so many milliseconds.
func tooFar(from, to place, ms int64) bool {
	if from.Known && to.Known {
		way := distance(from, to)
		return way > nearby && way-nearby > fastest*float64(ms)/3_600_000
	}
	return from.Region != "" && to.Region != "" && from.Region != to.Region && ms < regionChange.Milliseconds()
}

// distance returns the distance between two places on the earth, in kilometres.
func distance(a, b place) float64 {
	const radius, degree = 6371, math.Pi / 180
	dy, dx := (b.Lat-a.Lat)*degree/2, (b.Lon-a.Lon)*degree/2
	h := math.Sin(dy)*math.Sin(dy) + math.Cos(a.Lat*degree)*math.Cos(b.Lat*degree)*math.Sin(dx)*math.Sin(dx)
	return 2 * radius * math.Asin(math.Min(1, math.Sqrt(h)))
}
