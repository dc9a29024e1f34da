package alarms

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

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

var update = flag.Bool("update", false, "rewrite the tables of docs/alarms.md; read the diff")

// market generates scans of codes that are known to be genuine or copied. docs/alarms.md lists its assumptions about items and buyers.
type market struct {
	r       *rand.Rand
	users   uint64
	located bool // the region file has coordinates
	sold    int  // the number of scans of the last item before its sale
	world
}

// world contains the assumptions about the use of items.
type world struct {
	name     string
	shoppers float64 // people who look at an item in the shop, on average
	again    float64 // further scans by the buyer, on average
	friends  float64 // friends of the buyer, on average
	gifts    float64 // share of items that are given away into another city
	guests   float64 // guests at the table where the item is served, on average
	// misplaced is the part of the scans from mobile networks that the region file puts into another city.
	misplaced float64
}

// stated is the world for which thresholds are chosen. The other worlds show the rate of false alarms under other assumptions.
var stated = world{name: "as stated below", shoppers: 0.6, again: 1.2, friends: 0.5, misplaced: 1.0 / 60}

func (w world) but(name string, change func(*world)) world {
	w.name = name
	change(&w)
	return w
}

var worlds = []world{stated,
	stated.but("shoppers who look: 3", func(w *world) { w.shoppers = 3 }),
	stated.but("shoppers who look: 6", func(w *world) { w.shoppers = 6 }),
	stated.but("shoppers who look: 10", func(w *world) { w.shoppers = 10 }),
	stated.but("a campaign: buyers scan 5 times, 2 friends do", func(w *world) { w.again, w.friends = 4, 2 }),
	stated.but("gifts: every second goes to another city, 3 friends there", func(w *world) { w.gifts, w.friends = 0.5, 3 }),
	stated.but("restaurants: 5 guests at the table scan it", func(w *world) { w.guests = 5 }),
	stated.but("restaurants: 12 guests", func(w *world) { w.guests = 12 }),
	stated.but("carriers misplace 1 of 4", func(w *world) { w.misplaced = 0.25 }),
	stated.but("shoppers 3, carriers misplace 1 of 4", func(w *world) { w.shoppers, w.misplaced = 3, 0.25 }),
	stated.but("campaign, carriers misplace 1 of 4", func(w *world) { w.again, w.friends, w.misplaced = 4, 2, 0.25 }),
	stated.but("gifts, carriers misplace 1 of 4", func(w *world) { w.gifts, w.friends, w.misplaced = 0.5, 3, 0.25 }),
	stated.but("restaurants: 5 guests, carriers misplace 1 of 10", func(w *world) { w.guests, w.misplaced = 5, 0.1 }),
}

// guideNames are the worlds in the guide, in English and in Chinese.
var guideNames = [][2]string{
	{"few people handle an item: 0.6 look at it in the shop", "只经过少数人之手：店里平均 0.6 人扫一扫"},
	{"3 people look at it in the shop", "店里有 3 人扫"},
	{"6 people look at it in the shop", "店里有 6 人扫"},
	{"10 people look at it in the shop", "店里有 10 人扫"},
	{"a campaign: buyers scan 5 times, and 2 friends do", "促销活动：买家扫 5 次，2 位朋友也扫"},
	{"gifts: every second goes to another city, and 3 friends scan it there", "礼品：一半送到别的城市，那里有 3 位朋友扫"},
	{"restaurants: 5 guests scan it", "餐厅：5 位客人扫"},
	{"restaurants: 12 guests scan it", "餐厅：12 位客人扫"},
	{"few people, and carriers misplace 1 of 4 mobile scans", "少数人，运营商把四分之一的移动网络扫码定位到别处"},
	{"3 people in the shop, and such carriers", "店里有 3 人扫，且有上述运营商"},
	{"a campaign, and such carriers", "促销活动，且有上述运营商"},
	{"gifts, and such carriers", "礼品，且有上述运营商"},
	{"restaurants with 5 guests, and carriers misplace 1 of 10", "餐厅 5 位客人，运营商错置十分之一"},
}

// city returns a random city of forty. The first cities have more people.
func (w *market) city() int { return int(40 * w.r.Float64() * w.r.Float64()) }

func (w *market) user() uint64 {
	w.users++
	return w.users
}

// poisson returns a Poisson-distributed number.
func (w *market) poisson(mean float64) int {
	if mean == 0 {
		return 0
	}
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

// scansOf returns the scans of a genuine item: in production, in a warehouse, in a shop, and by its buyer.
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
	for range w.poisson(w.shoppers) {
		list = append(list, sight{at + time.Duration(w.r.Int64N(int64(20*day))), w.user(), shop, true})
	}
	at += time.Duration(w.r.Int64N(int64(25 * day)))
	home := shop
	if w.r.IntN(8) == 0 { // it is sent to another city, or given away
		home = w.city()
	}
	buyer := w.user()
	w.sold = len(list)
	if w.gifts > 0 && w.r.Float64() < w.gifts { // the giver scans it before giving it away
		list = append(list, sight{at - time.Hour, w.user(), shop, true})
		home = w.city()
	}
	for range 1 + w.poisson(w.again) {
		list = append(list, sight{at + time.Duration(w.r.ExpFloat64()*float64(4*day)), buyer, home, w.r.IntN(2) == 0})
	}
	for range w.poisson(w.guests) { // it is served, and the guests scan it
		list = append(list, sight{at + time.Duration(w.r.Int64N(int64(3*time.Hour))), w.user(), home, w.r.IntN(2) == 0})
	}
	for range w.poisson(w.friends) { // family and friends
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
	if w.r.IntN(5000) == 0 { // the item on display, which many shoppers scan
		for range 20 + w.r.IntN(100) {
			list = append(list, sight{at + time.Duration(w.r.Int64N(int64(30*day))), w.user(), shop, true})
		}
	}
	return list
}

// code returns the statistics of an item, or of many items with the same code.
func (w *market) code(items int) *Scans {
	var list []sight
	for range items {
		// Only some of the copies that are sold are ever scanned.
		if items == 1 || w.r.IntN(2) == 0 {
			list = append(list, w.scansOf()...)
		}
	}
	slices.SortFunc(list, func(a, b sight) int { return int(a.at - b.at) })
	c := &Scans{}
	for _, s := range list {
		city := s.city
		if s.mobile && w.r.Float64() < w.misplaced {
			city = w.city() // the carrier's gateway is elsewhere
		}
		e := scanlog.Event{OccurredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(s.at)}
		binary.BigEndian.PutUint64(e.User[:], s.user)
		first, network := byte(10), byte(s.user)
		if s.mobile {
			first, network = 11, byte(w.r.IntN(64))
		}
		e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{first, byte(city), network, 0}), 24)
		// Two cities make a region.
		place := Place{Region: regionNames[city/2]}
		if w.located {
			place.Known, place.Lat, place.Lon = true, 22+float64(city%8)*2.5, 102+float64(city/8)*4
		}
		hour := timebucket.Hour(e.OccurredAt)
		c.add(&e, timebucket.Day(hour, 8), int((hour+8)%24), place, s.mobile)
	}
	return c
}

var regionNames = func() (names [20]string) {
	for i := range names {
		names[i] = fmt.Sprint("CN-", i)
	}
	return names
}()

// scores returns the sorted scores of codes on a random number of items each.
func (w *market) scores(codes, from, to int) []int {
	list := make([]int, codes)
	for i := range list {
		list[i] = w.code(from + w.r.IntN(to-from+1)).Score()
	}
	slices.Sort(list)
	return list
}

// reaching returns the number of sorted scores that reach a threshold.
func reaching(scores []int, threshold int) int {
	below, _ := slices.BinarySearch(scores, threshold)
	return len(scores) - below
}

// TestAlarms_FalseAlarmRate checks the tables of docs/alarms.md and the documented rate of false alarms. Outside of make test-all it
// generates a tenth of the codes, and compares with a separate table, so that both detect a change of the scores.
func TestAlarms_FalseAlarmRate(t *testing.T) {
	t.Parallel()
	threshold, part := int(settings.Defaults().AlarmThreshold), testscope.Select(1, 10)
	var b bytes.Buffer
	percent := func(scores []int, threshold int) float64 {
		return 100 * float64(reaching(scores, threshold)) / float64(len(scores))
	}
	for _, located := range []bool{true, false} {
		w := &market{r: rand.New(rand.NewPCG(6, 3)), located: located, world: stated}
		heading := "With a region file that has regions only:"
		if located {
			heading = "Detection rates with a region file that has coordinates:"
		}
		fmt.Fprintf(&b, "\n%s\n\n| codes | made | alarm | no alarm | alarm in %% |\n| --- | ---: | ---: | ---: | ---: |\n", heading)
		for _, kind := range []struct {
			name     string
			from, to int
			codes    int
		}{
			{"honest: one item", 1, 1, 200_000}, {"copied: 2 items", 2, 2, 5_000}, {"copied: 3 to 5", 3, 5, 5_000},
			{"copied: 6 to 10", 6, 10, 5_000},
			{"copied: 11 to 20", 11, 20, 5_000}, {"copied: 21 to 50", 21, 50, 5_000}, {"copied: 51 to 200", 51, 200, 2_000},
		} {
			scores := w.scores(kind.codes/part, kind.from, kind.to)
			alarms, rate := reaching(scores, threshold), percent(scores, threshold)
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %.3g |\n", kind.name, len(scores), alarms, len(scores)-alarms, rate)
			assert.True(t, kind.to != 1 || rate <= 0.1, "false alarms: %d of %d honest codes", alarms, len(scores))
		}
	}
	fmt.Fprintf(&b, "\nRates in simulated worlds, with a region file that has coordinates. False alarms are per 1,000 honest codes, "+
		"detection rates in percent of\nthe copied codes with the stated number of items:\n\n"+
		"| simulated world | false alarms at %d, mobile trips at full weight | false alarms at %[1]d, first generator | "+
		"false alarms at %[1]d, second generator | recommended threshold | detected at %[1]d: 6 to 10 items | 11 to 20 | 21 to 50 | "+
		"detected at the recommended threshold: 6 to 10 items | 11 to 20 | 21 to 50 |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n", threshold)
	var guide [2]strings.Builder // the rows of the guide's pages
	for i, one := range worlds {
		honest := judgedBoth(one, 20_000/part)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s ", one.name, honest.wholeTrips.rates(threshold), honest.first.rates(threshold),
			honest.second.rates(threshold), honest.keeps())
		var at, other string
		for _, n := range [][2]int{{6, 10}, {11, 20}, {21, 50}} {
			copied := copiedBoth(one, 1_000/part, n[0], n[1])
			at += fmt.Sprintf("| %.3g ", percent(copied, threshold))
			other += fmt.Sprintf("| %.3g ", percent(copied, honest.threshold()))
		}
		b.WriteString(at + other + "|\n")
		for language, name := range guideNames[i] {
			fmt.Fprintf(&guide[language], "| %s | %.3g | %s |\n", name, max(honest.first.rate(threshold), honest.second.rate(threshold)),
				honest.keeps())
		}
	}
	t.Log(b.String())
	tables := strings.Trim(b.String(), "\n") + "\n"
	if part > 1 {
		checkTables(t, "testdata/alarms-tenth.md", "", tables, "")
		return
	}
	const file, begin, end = "../../../docs/alarms.md", "<!-- tables: make bench-alarms -->\n", "\n<!-- end of tables -->"
	page := require.Value(os.ReadFile(file))(t)
	before, rest, found := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	require.True(t, found && closed, "%s has no place for the tables", file)
	checkTables(t, file, before+begin, tables, end+after)
	for i, language := range []string{"en", "zh"} {
		file := "../../../docs/" + language + "/how/copied-codes.md"
		page := require.Value(os.ReadFile(file))(t)
		before, rest, found := strings.Cut(string(page), "| --- | ---: | ---: |\n")
		_, after, closed := strings.Cut(rest, "\n\n")
		require.True(t, found && closed, "%s has no place for the thresholds", file)
		checkTables(t, file, before+"| --- | ---: | ---: |\n", guide[i].String(), "\n"+after)
	}
}

// checkTables fails the test if a file differs from the generated tables. With -update it rewrites the file.
func checkTables(t *testing.T, file, before, tables, after string) {
	t.Helper()
	page, err := os.ReadFile(file)
	require.True(t, err == nil || *update, "%v", err)
	fresh := before + tables + after
	switch {
	case fresh == string(page):
	case *update:
		require.NoError(t, os.WriteFile(file, []byte(fresh), 0o644))
	default:
		t.Errorf("the tables of %s are outdated, want those of the code: make bench-alarms", file)
	}
}

func TestAlarmReasons_Plurals(t *testing.T) {
	for _, one := range []struct {
		why              Details
		english, chinese string
	}{
		{Details{Scans: 1}, "It was scanned once within a day.", "1 天内被扫 1 次。"},
		{Details{Scans: 40, Days: 1}, "It was scanned 40 times within a day.", "1 天内被扫 40 次。"},
		{Details{Scans: 40, Days: 9}, "It was scanned 40 times within 9 days.", "9 天内被扫 40 次。"},
	} {
		got := Alarm{Details: one.why}.Reasons()
		assert.True(t, len(got) == 1 && got[0].English() == one.english && got[0].Chinese() == one.chinese, "%+v: %+v", one.why, got)
	}
	got := (Alarm{Details: Details{Scans: 2, ImpossibleTravelCount: 1}}).Reasons()
	assert.True(t, len(got) == 2 && strings.HasSuffix(got[1].English(), "for the time between the scans: once."), "one trip: %+v", got)
}
