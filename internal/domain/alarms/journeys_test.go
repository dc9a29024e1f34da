package alarms

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// journeys is the second generator of normal use, which was written without looking at the score or the first generator. It follows
// an item through trade and households in the 337 cities of 31 provinces.
type journeys struct {
	r      *rand.Rand
	people uint64
	sold   int // the number of scans of the last item before its sale
	world
}

// town is a city of prefecture level.
type town struct {
	region   string
	lat, lon float64
	weight   float64 // cumulated share of the people of all towns
}

// provinces are the capitals of 31 provinces with the number of their cities, which are 337 in all.
var provinces = []struct {
	region   string
	lat, lon float64
	cities   int
}{
	{"CN-BJ", 39.9, 116.4, 1}, {"CN-TJ", 39.1, 117.2, 1}, {"CN-HE", 38.0, 114.5, 11}, {"CN-SX", 37.9, 112.5, 11},
	{"CN-NM", 40.8, 111.7, 12}, {"CN-LN", 41.8, 123.4, 14}, {"CN-JL", 43.9, 125.3, 9}, {"CN-HL", 45.8, 126.5, 13},
	{"CN-SH", 31.2, 121.5, 1}, {"CN-JS", 32.1, 118.8, 13}, {"CN-ZJ", 30.3, 120.2, 11}, {"CN-AH", 31.8, 117.2, 16},
	{"CN-FJ", 26.1, 119.3, 9}, {"CN-JX", 28.7, 115.9, 11}, {"CN-SD", 36.7, 117.0, 16}, {"CN-HA", 34.7, 113.6, 17},
	{"CN-HB", 30.6, 114.3, 13}, {"CN-HN", 28.2, 113.0, 14}, {"CN-GD", 23.1, 113.3, 21}, {"CN-GX", 22.8, 108.3, 14},
	{"CN-HI", 20.0, 110.3, 4}, {"CN-CQ", 29.6, 106.5, 1}, {"CN-SC", 30.7, 104.1, 21}, {"CN-GZ", 26.6, 106.7, 9},
	{"CN-YN", 25.0, 102.7, 16}, {"CN-XZ", 29.7, 91.1, 7}, {"CN-SN", 34.3, 108.9, 10}, {"CN-GS", 36.1, 103.8, 14},
	{"CN-QH", 36.6, 101.8, 8}, {"CN-NX", 38.5, 106.3, 5}, {"CN-XJ", 43.8, 87.6, 14},
}

// towns lists the cities; the first of each province is its capital, and the others stand around it.
var towns = func() (list []town) {
	r, sum := rand.New(rand.NewPCG(337, 31)), 0.0
	for _, p := range provinces {
		for i := range p.cities {
			t := town{region: p.region, lat: p.lat, lon: p.lon}
			size := 2.5
			if i > 0 {
				t.lat, t.lon = p.lat+1.4*r.NormFloat64(), p.lon+1.6*r.NormFloat64()
				size = 1 / math.Sqrt(float64(i))
			}
			sum += size
			t.weight = sum
			list = append(list, t)
		}
	}
	for i := range list {
		list[i].weight /= sum
	}
	return list
}()

// randomTown returns a random city, weighted by size.
func (j *journeys) randomTown() int {
	share := j.r.Float64()
	i, _ := slices.BinarySearchFunc(towns, share, func(t town, share float64) int {
		if t.weight < share {
			return -1
		}
		return 1
	})
	return min(i, len(towns)-1)
}

// nearbyTown returns a random city of the same province.
func (j *journeys) nearbyTown(city int) int {
	first, last := city, city
	for first > 0 && towns[first-1].region == towns[city].region {
		first--
	}
	for last+1 < len(towns) && towns[last+1].region == towns[city].region {
		last++
	}
	return first + j.r.IntN(last-first+1)
}

// newUser returns the number of a new user.
func (j *journeys) newUser() uint64 {
	j.people++
	return j.people
}

// randomCount returns a random number of people. The mean varies from shop to shop.
func (j *journeys) randomCount(mean float64) (n int) {
	mean *= j.r.ExpFloat64()
	for at := j.r.ExpFloat64(); at < mean; at += j.r.ExpFloat64() {
		n++
	}
	return n
}

// item returns the scans of one item.
func (j *journeys) item() (list []sight) {
	const day = 24 * time.Hour
	days := func(n float64) time.Duration { return time.Duration(n * j.r.ExpFloat64() * float64(day)) }
	see := func(instant time.Duration, user uint64, city int, mobile float64) {
		list = append(list, sight{instant, user, city, j.r.Float64() < mobile})
	}
	factory := []int{0, 60, 95, 200}[j.r.IntN(4)]
	instant := time.Duration(j.r.Float64() * 120 * float64(day))
	if j.r.Float64() < 0.25 {
		see(instant, j.newUser(), factory, 0)
	}
	instant += days(6)
	shop := j.randomTown()
	if j.r.Float64() < 0.15 { // the distributor books it in
		see(instant, j.newUser(), j.nearbyTown(shop), 0.1)
	}
	instant += days(5)
	online := j.r.Float64() < 0.35
	home := shop
	switch {
	case online:
		home = j.randomTown()
	default:
		for range j.randomCount(j.shoppers) {
			see(instant+time.Duration(j.r.Float64()*14*float64(day)), j.newUser(), shop, 0.7)
		}
		if j.r.Float64() < 0.2 {
			home = j.nearbyTown(shop)
		}
	}
	instant += days(8)
	buyer := j.newUser()
	j.sold = len(list)
	if j.r.Float64() < j.gifts { // the giver tries it, and the family of another city opens it
		see(instant, buyer, home, 0.5)
		instant, home, buyer = instant+days(4), j.randomTown(), j.newUser()
	}
	see(instant, buyer, home, 0.4)
	for range j.randomCount(j.again) {
		city := home
		if j.r.Float64() < 0.06 { // on a journey or at work
			city = j.randomTown()
		}
		see(instant+days(7), buyer, city, 0.5)
	}
	for range j.randomCount(j.friends) { // household and friends, mostly of the same city
		city := home
		if j.r.Float64() < 0.12 {
			city = j.nearbyTown(home)
		}
		see(instant+days(9), j.newUser(), city, 0.35)
	}
	for range j.randomCount(j.guests) {
		see(instant+time.Duration(j.r.Float64()*2.5*float64(time.Hour)), j.newUser(), home, 0.6)
	}
	if j.r.Float64() < 0.02 { // sold on, second hand
		see(instant+days(40), j.newUser(), j.randomTown(), 0.5)
	}
	return list
}

// code returns the statistics of an item, or of many with the same code, of which half are scanned.
func (j *journeys) code(items int) *Scans {
	var list []sight
	for range items {
		if items == 1 || j.r.IntN(2) == 0 {
			list = append(list, j.item()...)
		}
	}
	slices.SortFunc(list, func(a, b sight) int { return int(a.at - b.at) })
	c := &Scans{}
	for _, s := range list {
		city := s.city
		if s.mobile && j.r.Float64() < j.misplaced { // the carrier's gateway is in the capital, or in one of its large hubs
			for city > 0 && towns[city-1].region == towns[city].region {
				city--
			}
			if j.r.IntN(2) == 0 {
				city = j.randomTown()
			}
		}
		e := scanlog.Event{OccurredAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(s.at)}
		binary.BigEndian.PutUint64(e.User[:], s.user)
		address := [4]byte{byte(60 + city/256), byte(city), byte(s.user), 0}
		if s.mobile {
			address = [4]byte{byte(36 + city/256), byte(city), byte(j.r.IntN(32)), 0}
		}
		e.Network = netip.PrefixFrom(netip.AddrFrom4(address), 24)
		t, hour := towns[city], timebucket.Hour(e.OccurredAt)
		c.add(&e, timebucket.Day(hour, 8), int((hour+8)%24), Place{Region: t.region, Known: true, Lat: t.lat, Lon: t.lon}, s.mobile)
	}
	return c
}

// seeds is the number of independent samples of each world, whose range is the spread.
const seeds = 5

// samples are the sorted scores of honest codes, by seed.
type samples [seeds][]int

// bothJudged are the honest codes of a world by both generators; wholeTrips are the worse of the two with every trip counted whole.
type bothJudged struct{ first, second, wholeTrips samples }

// judgedBoth makes n honest codes of each seed by both generators.
func judgedBoth(one world, n int) (b bothJudged) {
	var whole [2]samples
	for seed := range seeds {
		w := &market{r: rand.New(rand.NewPCG(6, uint64(seed))), located: true, world: one}
		j := &journeys{r: rand.New(rand.NewPCG(31, uint64(seed))), world: one}
		for range n {
			for i, c := range []*Scans{w.code(1), j.code(1)} {
				into := []*samples{&b.first, &b.second}[i]
				into[seed] = append(into[seed], c.Score())
				c.MobileTrips = 0
				whole[i][seed] = append(whole[i][seed], c.Score())
			}
		}
		for _, s := range []*samples{&b.first, &b.second, &whole[0], &whole[1]} {
			slices.Sort(s[seed])
		}
	}
	b.wholeTrips = whole[0]
	if whole[1].keeps() > whole[0].keeps() {
		b.wholeTrips = whole[1]
	}
	return b
}

// copiedBoth returns the sorted scores of copied codes, half of each generator.
func copiedBoth(one world, n, from, to int) (scores []int) {
	w := &market{r: rand.New(rand.NewPCG(7, 7)), located: true, world: one}
	j := &journeys{r: rand.New(rand.NewPCG(32, 7)), world: one}
	for range n {
		scores = append(scores, w.code(from+w.r.IntN(to-from+1)).Score(), j.code(from+j.r.IntN(to-from+1)).Score())
	}
	slices.Sort(scores)
	return scores
}

// rate returns the false alarms in 1,000 honest codes of all seeds.
func (s samples) rate(threshold int) float64 {
	all := slices.Concat(s[:]...)
	slices.Sort(all)
	return 1000 * float64(reaching(all, threshold)) / float64(len(all))
}

// rates returns the false alarms in 1,000 honest codes, with the least and the most of a seed.
func (s samples) rates(threshold int) string {
	least, most := math.Inf(1), 0.0
	for _, scores := range s {
		rate := 1000 * float64(reaching(scores, threshold)) / float64(len(scores))
		least, most = min(least, rate), max(most, rate)
	}
	return fmt.Sprintf("%.3g (%.3g–%.3g)", s.rate(threshold), least, most)
}

// keepsOf returns the lowest threshold, in steps of five, at which at most one of 1,000 sorted scores raises an alarm.
func keepsOf(scores []int) int {
	threshold := 5
	for 1000*reaching(scores, threshold) > len(scores) {
		threshold += 5
	}
	return threshold
}

// keeps returns the threshold of the samples together.
func (s samples) keeps() int {
	all := slices.Concat(s[:]...)
	slices.Sort(all)
	return keepsOf(all)
}

// threshold returns the threshold that keeps one false alarm in 1,000 honest codes of either generator.
func (b bothJudged) threshold() int { return max(b.first.keeps(), b.second.keeps()) }

// keeps returns the threshold of the worse generator, with the least and the most of its seeds.
func (b bothJudged) keeps() string {
	worse := b.first
	if b.second.keeps() > b.first.keeps() {
		worse = b.second
	}
	least, most := keepsOf(worse[0]), 0
	for _, scores := range worse {
		least, most = min(least, keepsOf(scores)), max(most, keepsOf(scores))
	}
	return fmt.Sprintf("%d (%d–%d)", worse.keeps(), least, most)
}
