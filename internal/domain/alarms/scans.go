package alarms

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Scans summarises the scans of one code.
type Scans struct {
	CodeName
	Scans   int64
	FirstAt time.Time // of the scan that came first in the ledger
	LastAt  time.Time // the latest
	Users   hyperloglog.Users
	// Networks and Regions are how many different ones there were; they stop
	// at manyNetworks and manyRegions.
	Networks int
	Regions  int
	// Trips is the number of times that two users scanned the code in two places with too little time between them.
	Trips int
	Hours int // of the day in which it was scanned, 0 to 24
	Days  int // on which it was scanned; stops at manyDays
	// Erased is the number of its users whose data was erased.
	Erased int
	// Where it was scanned, as far as that is known, manyRegions places at most; earlier scans, from when places were not
	// kept, are missing.
	Where []Location
	// DismissedAt is the time at which an alarm of the code was last dismissed; zero = never.
	DismissedAt time.Time
	// since summarises the scans after DismissedAt alone; nil = no alarm was dismissed.
	since *Scans

	networks, regions, days []uint32 // sorted
	hours                   uint32
	there                   place // of the last scan whose place is known
	thereAt                 int64
	thereBy                 uint32 // its user
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

// Location is a place with the scans of a code that were there. Names are kept for ever.
type Location struct {
	Region   string  `json:"p,omitempty"`
	Known    bool    `json:"k,omitempty"` // the coordinates are, to a tenth of a degree
	Lat      float64 `json:"y,omitempty"`
	Lon      float64 `json:"x,omitempty"`
	Scans    int64   `json:"s"`
	Networks int64   `json:"n,omitempty"` // that were first seen there
}

// been counts a scan at a place.
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

// codeState is the part of Scans that a row stores beside its columns. Names are kept for ever.
type codeState struct {
	Users    string     `json:"u,omitempty"`
	Networks string     `json:"n,omitempty"`
	Regions  string     `json:"r,omitempty"`
	Days     string     `json:"d,omitempty"`
	Hours    uint32     `json:"h,omitempty"`
	Trips    int        `json:"t,omitempty"`
	Region   string     `json:"p,omitempty"`
	Known    bool       `json:"k,omitempty"`
	Lat      float64    `json:"y,omitempty"`
	Lon      float64    `json:"x,omitempty"`
	At       int64      `json:"a,omitempty"`
	By       uint32     `json:"b,omitempty"`
	Erased   int        `json:"e,omitempty"`
	Where    []Location `json:"w,omitempty"`
}

// sinceState is the part of a row about the scans since an alarm was dismissed.
type sinceState struct {
	From  int64 `json:"f"` // when that was, in milliseconds: another dismissal begins anew
	Scans int64 `json:"s"`
	codeState
}

// row returns the stored form.
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
		panic(err) // texts and finite numbers
	}
	return string(text)
}

func (c *Scans) state() codeState {
	return codeState{Users: textUnlessEmpty(&c.Users), Networks: numbersText(c.networks),
		Regions: numbersText(c.regions), Days: numbersText(c.days),
		Hours: c.hours, Trips: c.Trips, Region: c.there.Region, Known: c.there.Known, Lat: c.there.Lat, Lon: c.there.Lon, At: c.thereAt,
		By: c.thereBy, Erased: c.Erased, Where: c.Where}
}

func textUnlessEmpty(s *hyperloglog.Users) string {
	if s.Count() == 0 {
		return ""
	}
	return s.Encode()
}

// Read returns the inverse of row.
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
	c.thereBy, c.Where = state.By, state.Where
	c.count()
	return err
}

// judged returns the scans by which alarms are raised: all of the code, or those after its last alarm
// was dismissed.
func (c *Scans) judged() *Scans {
	if c.since != nil {
		return c.since
	}
	return c
}

// AlarmScore returns the score by which alarms are raised: that of all scans, or of those after the last alarm was
// dismissed.
func (c *Scans) AlarmScore() int { return c.judged().Score() }

// canAlarm reports whether a scan comes after every dismissal, and so can raise an alarm.
func (c *Scans) canAlarm(e *scanlog.Event) bool { return c.since == nil || e.At.After(c.DismissedAt) }

// replaceUser replaces a user by a number, in what is known of all scans and of those since a dismissal.
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

// Places knows where a network is.
type Places interface {
	Coordinates(netip.Addr) (lat, lon float64, ok bool)
}

// Add counts one more scan, in days of a zone so many hours east of UTC. The events come in the order of the log.
func (c *Scans) Add(e *scanlog.Event, offset int64, places Places) {
	hour := timebucket.Hour(e.At)
	loc := place{Region: e.Region}
	if places != nil && e.Network.IsValid() {
		loc.Lat, loc.Lon, loc.Known = places.Coordinates(e.Network.Addr())
	}
	c.add(e, timebucket.Day(hour, offset), int(timebucket.HourOfDay(hour, offset)), loc)
}

func (c *Scans) add(e *scanlog.Event, day int64, hourOfDay int, loc place) {
	if c.since != nil && c.canAlarm(e) {
		c.since.add(e, day, hourOfDay, loc)
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
		// Two users, because one user in two distant places means a wrong place: a carrier's
		// gateway, a tunnel.
		if c.thereAt != 0 && step != c.thereBy && tooFar(c.there, loc, max(ms-c.thereAt, c.thereAt-ms)) {
			c.Trips++
		}
		c.there, c.thereAt, c.thereBy = loc, ms, step
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
