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

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Scans holds the scan statistics of one code.
type Scans struct {
	CodeName
	Scans   int64
	FirstAt time.Time // time of the first scan in the scan log
	LastAt  time.Time // the latest
	Users   hyperloglog.Users
	// Networks and Regions count the distinct networks and regions; they stop counting at manyNetworks and manyRegions.
	Networks int
	Regions  int
	// Trips counts the cases in which two users scanned the code in two places with too little time to travel between them.
	Trips int
	// MobileTrips is the number of trips of which a scan came from a mobile network, whose place is less certain.
	MobileTrips int
	Hours       int // distinct hours of the day with scans, 0 to 24
	Days        int // distinct days with scans; stops counting at manyDays
	// Erased is the number of users of the code whose data was erased.
	Erased int
	// Where lists the known scan locations, at most manyRegions; scans from before locations were recorded are missing.
	Where []Location
	// DismissedAt is the time of the last dismissal of an alarm of the code; zero = never.
	DismissedAt time.Time
	// since holds the statistics of the scans after DismissedAt; nil = no alarm was dismissed.
	since *Scans

	networks, regions, days []uint32 // sorted
	hours                   uint32
	there                   place // place of the last scan with a known place
	thereAt                 int64
	thereBy                 uint32 // its user
	thereMobile             bool   // it came from a mobile network
}

const (
	manyNetworks = 64
	manyRegions  = 32
	manyDays     = 32
)

// place is the location of a scan, as precise as it is known.
type place struct {
	Region   string
	Known    bool // the coordinates are
	Lat, Lon float64
}

// Location is a place with the number of scans and networks seen there. The JSON names are stored and must never change.
type Location struct {
	Region   string  `json:"p,omitempty"`
	Known    bool    `json:"k,omitempty"` // true = the coordinates are known, to a tenth of a degree
	Lat      float64 `json:"y,omitempty"`
	Lon      float64 `json:"x,omitempty"`
	Scans    int64   `json:"s"`
	Networks int64   `json:"n,omitempty"` // number of networks that were first seen at this place
}

// been counts a scan at the place loc.
func (c *Scans) been(loc place, fresh int) {
	tenth := func(degrees float64) float64 { return math.Round(10*degrees) / 10 }
	loc.Lat, loc.Lon = tenth(loc.Lat), tenth(loc.Lon)
	i := slices.IndexFunc(c.Where, func(w Location) bool { return place{w.Region, w.Known, w.Lat, w.Lon} == loc })
	if i < 0 {
		if i = len(c.Where); i == manyRegions {
			return
		}
		c.Where = append(c.Where, Location{Region: loc.Region, Known: loc.Known, Lat: loc.Lat, Lon: loc.Lon})
	}
	c.Where[i].Scans++
	c.Where[i].Networks += int64(fresh)
}

// codeState is the JSON part of a stored Scans, for the values without a column. The JSON names are stored and must never change.
type codeState struct {
	Users    string     `json:"u,omitempty"`
	Networks string     `json:"n,omitempty"`
	Regions  string     `json:"r,omitempty"`
	Days     string     `json:"d,omitempty"`
	Hours    uint32     `json:"h,omitempty"`
	Trips    int        `json:"t,omitempty"`
	Mobile   int        `json:"m,omitempty"`
	ByMobile bool       `json:"c,omitempty"`
	Region   string     `json:"p,omitempty"`
	Known    bool       `json:"k,omitempty"`
	Lat      float64    `json:"y,omitempty"`
	Lon      float64    `json:"x,omitempty"`
	At       int64      `json:"a,omitempty"`
	By       uint32     `json:"b,omitempty"`
	Erased   int        `json:"e,omitempty"`
	Where    []Location `json:"w,omitempty"`
}

// sinceState is the JSON part of a row that describes the scans since an alarm was dismissed.
type sinceState struct {
	From  int64 `json:"f"` // time of the dismissal in milliseconds; another dismissal resets the statistics
	Scans int64 `json:"s"`
	codeState
}

// row returns the stored form of the statistics.
func (c *Scans) row() Row {
	row := Row{CodeName: c.CodeName, Scans: c.Scans, Users: c.Users.Count(), FirstAt: c.FirstAt, LastAt: c.LastAt,
		Score: int64(c.Score()), State: stateText(c.state()), Dismissed: c.DismissedAt}
	if c.since != nil {
		row.Since = stateText(sinceState{From: c.DismissedAt.UnixMilli(), Scans: c.since.Scans, codeState: c.since.state()})
	}
	return row
}

func stateText(state any) string {
	text, err := json.Marshal(state)
	if err != nil {
		panic(err) // cannot fail: the encoded value contains only strings and finite numbers
	}
	return string(text)
}

func (c *Scans) state() codeState {
	return codeState{Users: textUnlessEmpty(&c.Users), Networks: numbersText(c.networks),
		Regions: numbersText(c.regions), Days: numbersText(c.days),
		Hours: c.hours, Trips: c.Trips, Mobile: c.MobileTrips, ByMobile: c.thereMobile,
		Region: c.there.Region, Known: c.there.Known, Lat: c.there.Lat, Lon: c.there.Lon, At: c.thereAt,
		By: c.thereBy, Erased: c.Erased, Where: c.Where}
}

func textUnlessEmpty(s *hyperloglog.Users) string {
	if s.Count() == 0 {
		return ""
	}
	return s.Encode()
}

// Read converts a stored row to Scans; it is the inverse of row.
func Read(r Row) (*Scans, error) {
	c := &Scans{CodeName: r.CodeName, Scans: r.Scans, FirstAt: r.FirstAt, LastAt: r.LastAt, DismissedAt: r.Dismissed}
	var state codeState
	err := json.Unmarshal([]byte(r.State), &state)
	if err == nil {
		err = c.setState(state)
	}
	if err == nil && !r.Dismissed.IsZero() {
		c.since = &Scans{CodeName: r.CodeName}
		var firstState sinceState
		if r.Since != "" {
			err = json.Unmarshal([]byte(r.Since), &firstState)
		}
		if err == nil && firstState.From == r.Dismissed.UnixMilli() {
			c.since.Scans = firstState.Scans
			err = c.since.setState(firstState.codeState)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("what is known of the scans of code %d of application %d cannot be read: %w", r.Index, r.Batch, err)
	}
	return c, nil
}

func (c *Scans) setState(state codeState) (err error) {
	c.Users, err = hyperloglog.Decode(state.Users)
	for _, list := range []struct {
		text string
		into *[]uint32
	}{{state.Networks, &c.networks}, {state.Regions, &c.regions}, {state.Days, &c.days}} {
		if err == nil {
			*list.into, err = readNumbers(list.text)
		}
	}
	c.hours, c.Trips, c.Erased = state.Hours, state.Trips, state.Erased
	c.there, c.thereAt = place{Region: state.Region, Known: state.Known, Lat: state.Lat, Lon: state.Lon}, state.At
	c.thereBy, c.Where, c.thereMobile, c.MobileTrips = state.By, state.Where, state.ByMobile, state.Mobile
	c.count()
	return err
}

// judged returns the statistics from which alarms are raised: those of all scans, or those after the last dismissal.
func (c *Scans) judged() *Scans {
	if c.since != nil {
		return c.since
	}
	return c
}

// AlarmScore returns the score from which alarms are raised: that of all scans, or of the scans after the last dismissal.
func (c *Scans) AlarmScore() int { return c.judged().Score() }

// canAlarm reports whether a scan is later than every dismissal, so that it can raise an alarm.
func (c *Scans) canAlarm(e *scanlog.Event) bool { return c.since == nil || e.At.After(c.DismissedAt) }

// replaceUser replaces a user by a number, in the statistics of all scans and of the scans since a dismissal.
func (c *Scans) replaceUser(user scanlog.UserHash, step uint64) (changed bool) {
	if c.Users.Replace(user, step) {
		c.Erased++
		if c.thereBy == uint32(hyperloglog.Number(user)) {
			c.thereBy = uint32(step)
		}
		changed = true
	}
	return c.since != nil && c.since.replaceUser(user, step) || changed
}

func (c *Scans) count() {
	c.Networks, c.Regions, c.Days, c.Hours = len(c.networks), len(c.regions), len(c.days), bits.OnesCount32(c.hours)
}

// Places returns the location of a network, and whether a mobile carrier runs the network.
type Places interface {
	Coordinates(netip.Addr) (lat, lon float64, ok bool)
	Mobile(netip.Addr) bool
}

// mobileClient matches the client descriptions of scanning apps that tell the connection as Weixin does, as in NetType/5G.
var mobileClient = regexp.MustCompile(`\bNetType/[2-6]G`)

// Add counts one more scan; offset is the time zone that defines days, in hours east of UTC. Add must be called with the events in
// the order of the scan log.
func (c *Scans) Add(e *scanlog.Event, offset int64, places Places) {
	hour := timebucket.Hour(e.At)
	loc := place{Region: e.Region}
	mobile := mobileClient.MatchString(e.Client)
	if places != nil && e.Network.IsValid() {
		mobile = mobile || places.Mobile(e.Network.Addr())
		loc.Lat, loc.Lon, loc.Known = places.Coordinates(e.Network.Addr())
	}
	c.add(e, timebucket.Day(hour, offset), int(timebucket.HourOfDay(hour, offset)), loc, mobile)
}

func (c *Scans) add(e *scanlog.Event, day int64, hourOfDay int, loc place, mobile bool) {
	if c.since != nil && c.canAlarm(e) {
		c.since.add(e, day, hourOfDay, loc, mobile)
	}
	if c.Scans == 0 {
		c.FirstAt = e.At
	}
	c.Scans++
	if e.At.After(c.LastAt) {
		c.LastAt = e.At
	}
	c.Users.Add(e.User)
	networks := len(c.networks)
	if e.Network.IsValid() {
		c.networks = addNumber(c.networks, networkNumber(e.Network), manyNetworks)
	}
	if loc.Region != "" {
		c.regions = addNumber(c.regions, uint32(xxhash.Sum64String(loc.Region)), manyRegions)
	}
	c.days = addNumber(c.days, uint32(day), manyDays)
	c.hours |= 1 << hourOfDay
	if loc.Region != "" || loc.Known {
		c.been(loc, len(c.networks)-networks)
		ms, step := e.At.UnixMilli(), uint32(hyperloglog.Number(e.User))
		// Only scans by two different users count as a trip, because one user in two distant places indicates a wrong location, for
		// example a carrier's gateway or a tunnel.
		if c.thereAt != 0 && step != c.thereBy && tooFar(c.there, loc, max(ms-c.thereAt, c.thereAt-ms)) {
			c.Trips++
			if mobile || c.thereMobile {
				c.MobileTrips++
			}
		}
		c.there, c.thereAt, c.thereBy, c.thereMobile = loc, ms, step, mobile
	}
	c.count()
}

func networkNumber(p netip.Prefix) uint32 {
	b := p.Masked().Addr().As16()
	return uint32(xxhash.Sum64(b[:]))
}

func addNumber(list []uint32, n uint32, limit int) []uint32 {
	i, have := slices.BinarySearch(list, n)
	if have || len(list) == limit {
		return list
	}
	return slices.Insert(list, i, n)
}

func numbersText(list []uint32) string {
	b := make([]byte, 0, 4*len(list))
	for _, n := range list {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

func readNumbers(text string) (list []uint32, err error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b)%4 != 0 {
		return nil, fmt.Errorf("a list of numbers cannot be read")
	}
	for ; len(b) > 0; b = b[4:] {
		list = append(list, binary.BigEndian.Uint32(b))
	}
	return list, nil
}
