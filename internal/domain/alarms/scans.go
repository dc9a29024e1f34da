package alarms

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Scans holds the scan statistics of one code.
type Scans struct {
	CodeName
	Scans   int64
	FirstAt time.Time // earliest time of a scan
	LastAt  time.Time // latest time of a scan
	Users   hyperloglog.Users
	// Networks and Regions count the distinct networks and regions; they stop counting at manyNetworks and manyRegions.
	Networks int
	Regions  int
	// Trips counts how often two users scanned the code in two places, with too little time between the scans for the item to travel.
	Trips int
	// MobileTrips is the number of trips with a scan from a mobile network, where the location is less certain.
	MobileTrips int
	Hours       int // number of distinct hours of the day with scans, 0 to 24
	Days        int // number of distinct days with scans; stops counting at manyDays
	// FirstScore is the score of the scans within firstWeeks after the first scan.
	FirstScore int64
	// Erased is the number of users of the code whose data was erased.
	Erased int
	// Locations lists at most manyRegions known locations; scans made before this program recorded locations are missing.
	Locations []Location
	// DismissedAt is the time of the last dismissal of an alarm of the code; zero = never.
	DismissedAt time.Time
	// sinceDismissal holds the statistics of the scans after DismissedAt; nil = no alarm was dismissed.
	sinceDismissal *Scans

	early, late hyperloglog.Users // users who scanned the code while it was not active, and after it was redeemed
	redeemedAt  time.Time         // zero = not redeemed, or not looked up

	networks, regions, days []uint32 // sorted numbers of the distinct networks, regions and days
	hours                   uint32
	lastPlace               Place // place of the last scan with a known place
	lastPlaceAt             int64
	lastPlaceUser           uint32 // user number (low 32 bits) of the last scan with a known place
	lastPlaceMobile         bool   // true = the last scan with a known place came from a mobile network
}

const (
	manyNetworks = 64
	manyRegions  = 32
	manyDays     = 32
)

// Place is the location of a scan, as precise as it is known. The JSON names are stored and must never change.
type Place struct {
	Region string  `json:"p,omitempty"`
	Known  bool    `json:"k,omitempty"` // true = the coordinates are known
	Lat    float64 `json:"y,omitempty"`
	Lon    float64 `json:"x,omitempty"`
}

// Location is a place, with coordinates to a tenth of a degree, and the number of scans and networks seen there. The JSON names are stored
// and must never change.
type Location struct {
	Place
	Scans    int64 `json:"s"`
	Networks int64 `json:"n,omitempty"` // number of networks that were first seen at this place
}

// addLocation counts a scan at the place loc.
func (c *Scans) addLocation(loc Place, newNetworks int) {
	tenth := func(degrees float64) float64 { return math.Round(10*degrees) / 10 }
	loc.Lat, loc.Lon = tenth(loc.Lat), tenth(loc.Lon)
	i := slices.IndexFunc(c.Locations, func(w Location) bool { return w.Place == loc })
	if i < 0 {
		if i = len(c.Locations); i == manyRegions {
			return
		}
		c.Locations = append(c.Locations, Location{Place: loc})
	}
	c.Locations[i].Scans++
	c.Locations[i].Networks += int64(newNetworks)
}

// codeState is the JSON in Row.State: the statistics that have no column. The JSON names are stored and must never change.
type codeState struct {
	Users     string     `json:"u,omitempty"`
	Early     string     `json:"q,omitempty"`
	Late      string     `json:"l,omitempty"`
	Networks  string     `json:"n,omitempty"`
	Regions   string     `json:"r,omitempty"`
	Days      string     `json:"d,omitempty"`
	Hours     uint32     `json:"h,omitempty"`
	Trips     int        `json:"t,omitempty"`
	Mobile    int        `json:"m,omitempty"`
	ByMobile  bool       `json:"c,omitempty"`
	Place                // of the last scan with a known place
	At        int64      `json:"a,omitempty"`
	By        uint32     `json:"b,omitempty"`
	Erased    int        `json:"e,omitempty"`
	Locations []Location `json:"w,omitempty"`
}

// sinceState is the JSON in Row.SinceDismissal: the statistics of the scans since an alarm was dismissed.
type sinceState struct {
	From  int64 `json:"f"` // time of the dismissal in milliseconds; another dismissal resets the statistics
	Scans int64 `json:"s"`
	codeState
}

// row returns the stored form of the statistics.
func (c *Scans) row() Row {
	row := Row{CodeName: c.CodeName, Scans: c.Scans, Users: c.Users.Count(), FirstAt: c.FirstAt, LastAt: c.LastAt,
		Score: int64(c.Score()), FirstScore: c.FirstScore, State: encodeState(c.state()), Dismissed: c.DismissedAt}
	if c.LastAt.Sub(c.FirstAt) < firstWeeks {
		row.FirstScore = row.Score
	}
	if c.sinceDismissal != nil {
		row.SinceDismissal = encodeState(sinceState{From: c.DismissedAt.UnixMilli(), Scans: c.sinceDismissal.Scans,
			codeState: c.sinceDismissal.state()})
	}
	return row
}

func encodeState(state any) string {
	text, err := json.Marshal(state)
	if err != nil {
		panic(err) // cannot fail: the encoded value contains only strings and finite numbers
	}
	return string(text)
}

func (c *Scans) state() codeState {
	return codeState{Users: textUnlessEmpty(&c.Users), Early: textUnlessEmpty(&c.early), Late: textUnlessEmpty(&c.late),
		Networks: encodeNumbers(c.networks), Regions: encodeNumbers(c.regions), Days: encodeNumbers(c.days),
		Hours: c.hours, Trips: c.Trips, Mobile: c.MobileTrips, ByMobile: c.lastPlaceMobile,
		Place: c.lastPlace, At: c.lastPlaceAt, By: c.lastPlaceUser, Erased: c.Erased, Locations: c.Locations}
}

func textUnlessEmpty(s *hyperloglog.Users) string {
	if s.Count() == 0 {
		return ""
	}
	return s.Encode()
}

// Read converts a stored row to Scans; it is the inverse of row.
func Read(r Row) (*Scans, error) {
	c := &Scans{CodeName: r.CodeName, Scans: r.Scans, FirstAt: r.FirstAt, LastAt: r.LastAt, FirstScore: r.FirstScore,
		DismissedAt: r.Dismissed}
	var state codeState
	err := json.Unmarshal([]byte(r.State), &state)
	if err == nil {
		err = c.setState(state)
	}
	if err == nil && !r.Dismissed.IsZero() {
		c.sinceDismissal = &Scans{CodeName: r.CodeName}
		var dismissalState sinceState
		if r.SinceDismissal != "" {
			err = json.Unmarshal([]byte(r.SinceDismissal), &dismissalState)
		}
		if err == nil && dismissalState.From == r.Dismissed.UnixMilli() {
			c.sinceDismissal.Scans = dismissalState.Scans
			err = c.sinceDismissal.setState(dismissalState.codeState)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the scan state of code %d of application %d cannot be read: %w", r.Index, r.Batch, err)
	}
	return c, nil
}

func (c *Scans) setState(state codeState) (err error) {
	for _, users := range []struct {
		text   string
		target *hyperloglog.Users
	}{{state.Users, &c.Users}, {state.Early, &c.early}, {state.Late, &c.late}} {
		if err == nil {
			*users.target, err = hyperloglog.Decode(users.text)
		}
	}
	for _, list := range []struct {
		text   string
		target *[]uint32
	}{{state.Networks, &c.networks}, {state.Regions, &c.regions}, {state.Days, &c.days}} {
		if err == nil {
			*list.target, err = decodeNumbers(list.text)
		}
	}
	c.hours, c.Trips, c.Erased = state.Hours, state.Trips, state.Erased
	c.lastPlace, c.lastPlaceAt = state.Place, state.At
	c.lastPlaceUser, c.Locations, c.lastPlaceMobile, c.MobileTrips = state.By, state.Locations, state.ByMobile, state.Mobile
	c.count()
	return err
}

// alarmStatistics returns the statistics that can raise alarms: those of all scans, or of the scans after the last dismissal.
func (c *Scans) alarmStatistics() *Scans {
	if c.sinceDismissal != nil {
		return c.sinceDismissal
	}
	return c
}

// AlarmScore returns the score that is compared with the threshold: that of all scans, or of the scans after the last dismissal.
func (c *Scans) AlarmScore() int { return c.alarmStatistics().Score() }

// isAfterDismissal reports whether a scan is later than the last dismissal; only such a scan can raise an alarm.
func (c *Scans) isAfterDismissal(e *scanlog.Event) bool {
	return c.sinceDismissal == nil || e.OccurredAt.After(c.DismissedAt)
}

// replaceUser replaces the hash of a user by the given number, in the statistics of all scans and of the scans since the last dismissal.
func (c *Scans) replaceUser(user scanlog.UserHash, number uint64) (changed bool) {
	if c.Users.Replace(user, number) {
		c.Erased++
		if c.lastPlaceUser == uint32(hyperloglog.Number(user)) {
			c.lastPlaceUser = uint32(number)
		}
		changed = true
	}
	c.early.Replace(user, number)
	c.late.Replace(user, number)
	return c.sinceDismissal != nil && c.sinceDismissal.replaceUser(user, number) || changed
}

func (c *Scans) count() {
	c.Networks, c.Regions, c.Days, c.Hours = len(c.networks), len(c.regions), len(c.days), bits.OnesCount32(c.hours)
}

// Places returns the location of a network, and whether a mobile carrier runs the network.
type Places interface {
	Coordinates(netip.Addr) (lat, lon float64, ok bool)
	Mobile(netip.Addr) bool
}

// mobileClient matches the user agent of an app on a mobile network, if the app states its connection type as Weixin does: NetType/5G.
var mobileClient = regexp.MustCompile(`\bNetType/[2-6]G`)

// Add counts one more scan; offset is the time zone that defines days, in hours east of UTC. Add must be called with the events in
// the order of the scan log.
func (c *Scans) Add(e *scanlog.Event, offset int64, places Places) {
	if c.LastAt.Sub(c.FirstAt) < firstWeeks &&
		max(e.OccurredAt.Sub(c.FirstAt), c.LastAt.Sub(e.OccurredAt)) >= firstWeeks { // the first scan outside these weeks
		c.FirstScore = int64(c.Score())
	}
	hour := timebucket.Hour(e.OccurredAt)
	loc := Place{Region: e.Region}
	mobile := mobileClient.MatchString(e.Client)
	if places != nil && e.Network.IsValid() {
		mobile = mobile || places.Mobile(e.Network.Addr())
		loc.Lat, loc.Lon, loc.Known = places.Coordinates(e.Network.Addr())
	}
	c.add(e, timebucket.Day(hour, offset), int(timebucket.HourOfDay(hour, offset)), loc, mobile)
}

func (c *Scans) add(e *scanlog.Event, day int64, hourOfDay int, loc Place, mobile bool) {
	if c.sinceDismissal != nil && c.isAfterDismissal(e) {
		c.sinceDismissal.redeemedAt = c.redeemedAt
		c.sinceDismissal.add(e, day, hourOfDay, loc, mobile)
	}
	if c.Scans == 0 || e.OccurredAt.Before(c.FirstAt) {
		c.FirstAt = e.OccurredAt
	}
	c.Scans++
	if e.OccurredAt.After(c.LastAt) {
		c.LastAt = e.OccurredAt
	}
	c.Users.Add(e.User)
	switch {
	case e.Reason == string(codes.NotActive):
		c.early.Add(e.User)
	case !c.redeemedAt.IsZero() && e.OccurredAt.After(c.redeemedAt):
		c.late.Add(e.User)
	}
	networks := len(c.networks)
	if e.Network.IsValid() {
		address := e.Network.Masked().Addr().As16()
		c.networks = addNumber(c.networks, uint32(xxhash.Sum64(address[:])), manyNetworks)
	}
	if loc.Region != "" {
		c.regions = addNumber(c.regions, uint32(xxhash.Sum64String(loc.Region)), manyRegions)
	}
	c.days = addNumber(c.days, uint32(day), manyDays)
	c.hours |= 1 << hourOfDay
	if loc.Region != "" || loc.Known {
		c.addLocation(loc, len(c.networks)-networks)
		ms, user := e.OccurredAt.UnixMilli(), uint32(hyperloglog.Number(e.User))
		// Only scans by two different users count as a trip, because one user in two distant places indicates a wrong location, for
		// example a carrier's gateway or a tunnel.
		if c.lastPlaceAt != 0 && user != c.lastPlaceUser && isImpossibleTrip(c.lastPlace, loc, max(ms-c.lastPlaceAt, c.lastPlaceAt-ms)) {
			c.Trips++
			if mobile || c.lastPlaceMobile {
				c.MobileTrips++
			}
		}
		c.lastPlace, c.lastPlaceAt, c.lastPlaceUser, c.lastPlaceMobile = loc, ms, user, mobile
	}
	c.count()
}

func addNumber(list []uint32, n uint32, limit int) []uint32 {
	i, have := slices.BinarySearch(list, n)
	if have || len(list) == limit {
		return list
	}
	return slices.Insert(list, i, n)
}

func encodeNumbers(list []uint32) string {
	b := make([]byte, 0, 4*len(list))
	for _, n := range list {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

func decodeNumbers(text string) (list []uint32, err error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b)%4 != 0 {
		return nil, fmt.Errorf("invalid list of numbers")
	}
	for ; len(b) > 0; b = b[4:] {
		list = append(list, binary.BigEndian.Uint32(b))
	}
	return list, nil
}
