// Package rulegen generates realistic jump rules and links. The output depends only on the seed, and each rule is
// computed from its number, so ten million rules need no memory.
//
// Each Mini Program has 100 rules: 70 match an exact path, 20 a path and everything below it, 10 the beginning of a query.
// A third of the rules are nested below another rule; one in ten of these belongs to another Mini Program.
// Hosts are drawn from 20,000 by Zipf's law. One rule in 20 is not published.
package rulegen

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Kind is the position in the link where a prefix ends.
type Kind byte

// Kinds of rules.
const (
	Exact Kind = iota // at a path
	Sub               // after a "/": everything below matches
	Query             // inside the query
)

const (
	// PerApp is the number of rules of a Mini Program.
	PerApp = 100
	// Hosts is the number of hosts.
	Hosts = 20_000
	// Limit is the maximum number of rules: one for each token.
	Limit = 36 * 36 * 36 * 36 * 36 * 36
)

// Rule is one jump rule.
type Rule struct {
	// Number is the index of the rule in its set.
	Number int
	Kind   Kind
	// Parent is the number of the rule that this rule is nested below, -1 = none.
	Parent int
	// Owner is the number of its Mini Program; AppID returns the AppID.
	Owner     int
	Prefix    string
	Page      string
	Published bool
}

// AppID returns the AppID of a Mini Program.
func AppID(owner int) string { return fmt.Sprintf("wx%016x", mix(uint64(owner)^0xa9f1d)) }

// Set is a set of rules.
type Set struct {
	// N is the number of rules, at most Limit.
	N    int
	Seed uint64

	hosts []float64 // cumulative weights
}

// New returns a set of n rules.
func New(n int, seed uint64) *Set {
	s := &Set{N: n, Seed: seed, hosts: make([]float64, Hosts)}
	sum := 0.0
	for i := range s.hosts {
		sum += 1 / float64(i+1)
		s.hosts[i] = sum
	}
	for i := range s.hosts {
		s.hosts[i] /= sum
	}
	return s
}

// Apps returns the number of Mini Programs.
func (s *Set) Apps() int { return (s.N + PerApp - 1) / PerApp }

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// draw returns the random number of a rule for a purpose.
func (s *Set) draw(number int, purpose uint64) uint64 {
	return mix(s.Seed ^ mix(uint64(number)^purpose<<56))
}

// Purposes of draw.
const (
	forHost = iota + 1
	forParent
	forWord
	forOwner
	forPublished
	forScheme
	forName
	forPage
)

// The rules of a Mini Program have 100 roles in a pseudorandom order: roles 0 to 19 end
// after a "/", 20 to 89 at a path, 90 to 99 in the query.
const (
	firstExact = 20
	firstQuery = 90
	// Roles from nestedSub to firstExact, from firstExact to rootExact and from
	// firstQuery to rootQuery (exclusive) are nested: 33 of 100.
	nestedSub = 14
	rootExact = 43
	rootQuery = 94
)

func role(number int) int { return (number%PerApp*37 + number/PerApp*13) % PerApp }

// byRole returns the number of the rule of a Mini Program with a role.
func byRole(app, role int) int {
	const inverse = 73 // of 37, modulo 100
	return app*PerApp + ((role-app*13%PerApp+PerApp)*inverse)%PerApp
}

// At returns the rule with a number from 0 to N-1.
func (s *Set) At(number int) Rule {
	app, slot := number/PerApp, role(number)
	r := Rule{Number: number, Parent: -1, Owner: app, Published: s.draw(number, forPublished)%20 != 0}
	var below int
	switch {
	case slot < firstExact:
		r.Kind, below = Sub, -1
		if slot >= nestedSub {
			below = int(s.draw(number, forParent) % nestedSub)
		}
	case slot < firstQuery:
		r.Kind, below = Exact, -1
		if slot < rootExact {
			below = int(s.draw(number, forParent) % firstExact)
		}
	default:
		r.Kind, below = Query, -1
		if slot < rootQuery {
			// Nested below an exact rule, or below one that ends after a "/".
			below = rootExact + int(s.draw(number, forParent)%(firstQuery-rootExact))
			if slot%2 == 0 {
				below = int(s.draw(number, forParent) % firstExact)
			}
		}
	}
	if below >= 0 {
		// The last Mini Program may have fewer than 100 rules.
		if parent := byRole(app, below); parent < s.N {
			r.Parent = parent
		}
	}
	buf := make([]byte, 0, 96)
	if r.Parent >= 0 {
		parent := s.At(r.Parent)
		if s.draw(number, forOwner)%10 == 0 {
			r.Owner = (app + 1) % s.Apps()
		}
		buf = append(buf, parent.Prefix...)
		if parent.Kind == Exact {
			buf = append(buf, "?sn="...)
			r.Prefix = string(s.token(buf, number))
			r.Page = page(s.draw(number, forPage))
			return r
		}
	} else {
		buf = append(buf, "https://"...)
		if s.draw(number, forScheme)%10 == 0 {
			buf = append(buf[:0], "http://"...)
		}
		buf = s.host(buf, app, int(s.draw(number, forHost)%3))
		buf = append(buf, '/')
		buf = append(buf, segments[s.draw(number, forWord)%uint64(len(segments))]...)
		buf = append(buf, '/')
	}
	buf = s.token(buf, number)
	switch r.Kind {
	case Sub:
		buf = append(buf, '/')
	case Query:
		buf = append(buf, "?id="...)
		buf = strconv.AppendUint(buf, s.draw(number, forName)%90+10, 10)
	}
	r.Prefix = string(buf)
	r.Page = page(s.draw(number, forPage))
	return r
}

// token appends six characters that are unique to the rule.
func (s *Set) token(buf []byte, number int) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	// Multiplication by a number coprime to 36 permutes the numbers modulo
	// Limit.
	v := (uint64(number)*1_298_051_783 + s.Seed%Limit) % Limit
	for range 6 {
		buf = append(buf, digits[v%36])
		v /= 36
	}
	return buf
}

// host appends one of the three hosts of a Mini Program.
func (s *Set) host(buf []byte, app, which int) []byte {
	u := float64(s.draw(app*3+which, forHost)>>11) / (1 << 53)
	i, _ := slices.BinarySearch(s.hosts, u)
	i = min(i, Hosts-1)
	buf = append(buf, labels[i%len(labels)]...)
	buf = append(buf, names[i/3%len(names)]...)
	buf = strconv.AppendInt(buf, int64(i), 10)
	return append(buf, domains[i%len(domains)]...)
}

var (
	labels   = []string{"", "m.", "go."}
	names    = []string{"coffee", "bike", "tea", "hotel", "shop", "park", "book", "city", "milk", "bus", "noodle", "clinic", "cinema", "laundry", "ticket", "garden"}
	domains  = []string{".example", ".example.cn", ".example.com"}
	segments = []string{"t", "table", "p", "item", "bike", "q", "s", "order", "room", "dev", "g", "pay"}
	pages    = []string{"pages/table/table", "pages/index/index", "pages/item/item", "pages/order/detail", "packages/ride/unlock/unlock"}
)

func page(draw uint64) string { return pages[draw%uint64(len(pages))] }

// All returns the rules in the order of their numbers.
func (s *Set) All() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		for i := range s.N {
			if !yield(s.At(i)) {
				return
			}
		}
	}
}

// Governing returns the rule that opens for a link whose longest matching rule is r; ok is false if none opens. Only the
// longest matching rule of each owner counts, and it must be published. A table of plain prefixes has the result as the
// value of r.
func (s *Set) Governing(r Rule) (governing Rule, ok bool) {
	var seen []int
	for {
		if r.Published && !slices.Contains(seen, r.Owner) {
			return r, true
		}
		seen = append(seen, r.Owner)
		if r.Parent < 0 {
			return Rule{}, false
		}
		r = s.At(r.Parent)
	}
}

// Link is a scanned link.
type Link struct {
	Text string
	// Near is true if the link was generated to miss a rule narrowly.
	Near bool
}

// nearMisses is the share of links that match no rule.
const nearMisses = 5 // one in five

// Links returns an endless sequence of links: uniform over the rules, or by Zipf's law with exponent 1.05 if zipf is
// true.
func (s *Set) Links(zipf bool, seed uint64) iter.Seq[Link] {
	return func(yield func(Link) bool) {
		random := rand.New(rand.NewPCG(seed, s.Seed))
		ranks := rand.NewZipf(random, 1.05, 1, uint64(s.N-1))
		step := s.coprime()
		for {
			number := random.IntN(s.N)
			if zipf {
				// Ranks are spread over the Mini Programs.
				number = int(ranks.Uint64() * step % uint64(s.N))
			}
			near := random.IntN(nearMisses) == 0
			if !yield(Link{Text: s.link(number, near, random), Near: near}) {
				return
			}
		}
	}
}

// coprime returns a step coprime to N, so that multiples of it visit every number once.
func (s *Set) coprime() uint64 {
	for step := uint64(0.618 * float64(s.N)); ; step++ {
		a, b := step, uint64(s.N)
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 && step < math.MaxUint32 {
			return step
		}
	}
}

// link returns a link that a rule opens, or with near a link that misses the rule narrowly and matches none.
func (s *Set) link(number int, near bool, random *rand.Rand) string {
	r := s.At(number)
	if near {
		for r.Parent >= 0 { // a link that misses a nested rule may match its parent
			r = s.At(r.Parent)
		}
		return miss(r, random)
	}
	for !r.Published {
		r = s.At((r.Number + 1) % s.N)
	}
	extra := strconv.FormatUint(random.Uint64()%1_000_000_000, 36)
	switch r.Kind {
	case Sub:
		switch random.IntN(3) {
		case 0:
			return r.Prefix + extra
		case 1:
			return r.Prefix + extra + "/" + strconv.Itoa(random.IntN(100))
		}
		return r.Prefix + extra + "?from=" + strconv.Itoa(random.IntN(100))
	case Query:
		if random.IntN(2) == 0 {
			return r.Prefix + extra
		}
		return r.Prefix + "&from=" + extra
	}
	if random.IntN(2) == 0 {
		return r.Prefix
	}
	return r.Prefix + "?from=" + extra
}

func miss(r Rule, random *rand.Rand) string {
	if random.IntN(4) == 0 { // the wrong scheme
		if rest, ok := strings.CutPrefix(r.Prefix, "https://"); ok {
			return "http://" + rest
		}
		return "https://" + r.Prefix[len("http://"):]
	}
	switch r.Kind {
	case Sub:
		if random.IntN(2) == 0 {
			return r.Prefix[:len(r.Prefix)-1] // without the "/"
		}
		return r.Prefix[:len(r.Prefix)-2] + "_/" + strconv.Itoa(random.IntN(1000))
	case Query:
		return r.Prefix[:len(r.Prefix)-1] + "_&from=" + strconv.Itoa(random.IntN(1000))
	}
	switch random.IntN(3) {
	case 0: // below an exact path
		return r.Prefix + "/" + strconv.Itoa(random.IntN(1000))
	case 1:
		return r.Prefix + "_"
	}
	return r.Prefix[:len(r.Prefix)-1] + "_?from=" + strconv.Itoa(random.IntN(1000))
}

// Take returns the texts of the first n links.
func Take(links iter.Seq[Link], n int) []string {
	texts := make([]string, 0, n)
	if n == 0 {
		return texts
	}
	for l := range links {
		texts = append(texts, l.Text)
		if len(texts) == n {
			break
		}
	}
	return texts
}
