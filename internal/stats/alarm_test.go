package stats

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
)

var update = flag.Bool("update", false, "rewrite the tables of docs/alarms.md; read the diff")

// market makes codes whose truth is known. Its numbers are what we believe of
// items and their buyers; docs/alarms.md lists them.
type market struct {
	r     *rand.Rand
	users uint64
	// located: a region file with coordinates is there.
	located bool
}

// city is one of forty, the first ones with more people.
func (w *market) city() int { return int(40 * w.r.Float64() * w.r.Float64()) }

func (w *market) user() uint64 {
	w.users++
	return w.users
}

// poisson is a number around a mean.
func (w *market) poisson(mean float64) int {
	limit, n := math.Exp(-mean), 0
	for p := w.r.Float64(); p > limit; p *= w.r.Float64() {
		n++
	}
	return n
}

// sight is a scan of an item.
type sight struct {
	at     time.Duration
	user   uint64
	city   int
	mobile bool
}

// scansOf is what happens to one honest item: it is made in a city, is checked
// in a warehouse, stands in a shop, and somebody buys it.
func (w *market) scansOf() (list []sight) {
	day := 24 * time.Hour
	at := time.Duration(w.r.Int64N(int64(90 * day)))
	if w.r.IntN(3) == 0 { // it is scanned when it is packed
		list = append(list, sight{at, w.user(), 3, false})
	}
	at += time.Duration(float64(day) * (2 + 20*w.r.Float64()))
	shop := w.city()
	if w.r.IntN(4) == 0 { // and when it comes into the shop
		list = append(list, sight{at, w.user(), shop, false})
	}
	// Some people look at it in the shop.
	for range w.poisson(0.6) {
		list = append(list, sight{at + time.Duration(w.r.Int64N(int64(20*day))), w.user(), shop, true})
	}
	at += time.Duration(w.r.Int64N(int64(25 * day)))
	home := shop
	if w.r.IntN(8) == 0 { // it is sent to another city, or given away
		home = w.city()
	}
	buyer := w.user()
	for range 1 + w.poisson(1.2) {
		list = append(list, sight{at + time.Duration(w.r.ExpFloat64()*float64(4*day)), buyer, home, w.r.IntN(2) == 0})
	}
	for range w.poisson(0.5) { // family and friends
		list = append(list, sight{at + time.Duration(w.r.ExpFloat64()*float64(6*day)), w.user(), home, w.r.IntN(2) == 0})
	}
	if w.r.IntN(25) == 0 { // it travels along
		at += time.Duration(float64(day) * (1 + 20*w.r.Float64()))
		list = append(list, sight{at, buyer, w.city(), true})
	}
	if w.r.IntN(200) == 0 { // it is passed round at a party
		for range 3 + w.r.IntN(6) {
			list = append(list, sight{at + time.Duration(w.r.Int64N(int64(3*time.Hour))), w.user(), home, true})
		}
	}
	if w.r.IntN(5000) == 0 { // it is the one on show, which everybody scans
		for range 20 + w.r.IntN(100) {
			list = append(list, sight{at + time.Duration(w.r.Int64N(int64(30*day))), w.user(), shop, true})
		}
	}
	return list
}

// code lets an item, or many with the same code, be scanned.
func (w *market) code(items int) *CodeScans {
	var list []sight
	for range items {
		// Only some of the copies that are sold are ever scanned.
		if items == 1 || w.r.IntN(2) == 0 {
			list = append(list, w.scansOf()...)
		}
	}
	slices.SortFunc(list, func(a, b sight) int { return int(a.at - b.at) })
	c := &CodeScans{}
	for _, s := range list {
		c.scan(w, s)
	}
	return c
}

// scan adds a scan as the ledger would have it.
func (c *CodeScans) scan(w *market, s sight) {
	city := s.city
	if s.mobile && w.r.IntN(60) == 0 {
		city = w.city() // the carrier's gateway is elsewhere
	}
	e := ledger.Event{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(s.at)}
	binary.BigEndian.PutUint64(e.User[:], s.user)
	network := byte(s.user)
	if s.mobile {
		network = byte(w.r.IntN(64))
	}
	e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + b2i(s.mobile)), byte(city), network, 0}), 24)
	// Two cities make a region.
	at := place{Region: fmt.Sprint("CN-", city/2)}
	if w.located {
		at.Known, at.Lat, at.Lon = true, 22+float64(city%8)*2.5, 102+float64(city/8)*4
	}
	hour := HourOf(e.At)
	c.add(&e, DayOf(hour, 8), int((hour+8)%24), at)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestAlarmsOnCodesWhoseTruthIsKnown keeps the table of docs/alarms.md, and the
// rate of false alarms that is promised there.
func TestAlarmsOnCodesWhoseTruthIsKnown(t *testing.T) {
	var b bytes.Buffer
	for _, located := range []bool{true, false} {
		w := &market{r: rand.New(rand.NewPCG(6, 3)), located: located}
		fmt.Fprintf(&b, "\n%s\n\n| codes | made | alarm | no alarm | alarm in %% |\n| --- | ---: | ---: | ---: | ---: |\n",
			map[bool]string{true: "With a region file that has coordinates:", false: "With a region file that has regions only:"}[located])
		for _, kind := range []struct {
			name     string
			from, to int
			codes    int
		}{
			{"honest: one item", 1, 1, 200_000}, {"copied: 2 items", 2, 2, 5_000}, {"copied: 3 to 5", 3, 5, 5_000},
			{"copied: 6 to 10", 6, 10, 5_000},
			{"copied: 11 to 20", 11, 20, 5_000}, {"copied: 21 to 50", 21, 50, 5_000}, {"copied: 51 to 200", 51, 200, 2_000},
		} {
			alarms := 0
			for range kind.codes {
				if w.code(kind.from+w.r.IntN(kind.to-kind.from+1)).Score() >= AlarmScore {
					alarms++
				}
			}
			rate := 100 * float64(alarms) / float64(kind.codes)
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %.3g |\n", kind.name, kind.codes, alarms, kind.codes-alarms, rate)
			if kind.to == 1 && rate > 0.1 {
				t.Errorf("false alarms: %d of %d honest codes", alarms, kind.codes)
			}
		}
	}
	t.Log(b.String())
	const file, begin, end = "../../docs/alarms.md", "<!-- tables: make bench-alarms -->\n", "\n<!-- end of tables -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the tables", file)
	}
	fresh := before + begin + strings.Trim(b.String(), "\n") + "\n" + end + after
	switch {
	case fresh == string(page):
	case *update:
		if err := os.WriteFile(file, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the tables of %s are not what the code does: make bench-alarms", file)
	}
}
