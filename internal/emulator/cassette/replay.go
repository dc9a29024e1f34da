package cassette

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
)

// Player responds to calls from a cassette, without a network.
type Player struct {
	// ByContent makes the player select a line by its request: the first unused line that matches or, if all matching lines are
	// used, the last of them. If ByContent is false, calls must arrive in the order of the lines.
	ByContent bool

	lines     []Recorded
	mu        sync.Mutex
	mask      Mask
	next      int
	used      []bool
	failures  []string
	lastKnown int         // largest placeholder number of the cassette; larger numbers stand for values that the caller made up
	means     map[int]int // maps a placeholder number above lastKnown to the matching placeholder number in the cassette
}

// NewPlayer returns a player that responds with lines.
func NewPlayer(lines []Recorded, byContent bool) *Player {
	p := &Player{ByContent: byContent, lines: lines, used: make([]bool, len(lines)), means: map[int]int{}}
	p.mask.seen = map[string]mark{}
	for i := range lines {
		r := &p.lines[i]
		p.know(r, r.query)
		p.know(r, r.request)
		p.know(r, r.answer)
	}
	p.mask.base = p.lastKnown
	return p
}

// know records the value that the caller receives for each placeholder. If the caller later sends this value, the player masks the
// value with the same placeholder.
func (p *Player) know(r *Recorded, v value) {
	for t := range v.texts {
		for _, parseMark := range parseMarks(t.text) {
			if parseMark.mark.n > 0 {
				parseMark.mark.capitals = false
				key := keyOf(shownFor(parseMark.mark, r))
				p.lastKnown = max(p.lastKnown, parseMark.mark.n)
				parseMark.mark.number = false
				if _, known := p.mask.seen[key]; !known {
					p.mask.seen[key] = parseMark.mark
				}
			}
		}
	}
}

// shownFor returns the value that the caller receives for a placeholder.
func shownFor(m mark, r *Recorded) string {
	if m.kind == "buffer" {
		return base64.StdEncoding.EncodeToString(make([]byte, min(m.length, longestStandIn)*3/4))
	}
	return m.standIn(r.OccurredAt)
}

// Unreplayed returns the received calls that matched no line, and the number of unused lines.
func (p *Player) Unreplayed() (wrong []string, unused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, single := range p.used {
		if !single {
			unused++
		}
	}
	return p.failures, unused
}

// ServeHTTP responds to one call.
func (p *Player) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, longestBody))
	if err != nil {
		http.Error(w, "qrjump cassette replay: the request did not arrive whole", http.StatusBadRequest)
		return
	}
	r, said := p.find(in, body)
	if said != "" {
		http.Error(w, "qrjump cassette replay: "+said, http.StatusNotImplemented)
		return
	}
	if r.Error != "" && r.Status == 0 {
		panic(http.ErrAbortHandler) // the caller sees the recorded failure: an aborted connection
	}
	for name, masked := range r.Headers {
		w.Header().Set(name, plainText(masked, r.OccurredAt))
	}
	if r.Headers["Content-Type"] == "" {
		w.Header()["Content-Type"] = nil
	}
	w.WriteHeader(r.Status)
	if r.answerRawKind != "" {
		_ = asStandIn(r.answer).writeRaw(w) // the error is ignored: the caller may disconnect
	} else if r.answer.kind != absent {
		w.Write(show(r, r.answer).json())
	}
	if r.Error != "" {
		panic(http.ErrAbortHandler)
	}
}

// show returns the response of a line with values in place of placeholders.
func show(r *Recorded, v value) value {
	if v.kind == text {
		if m, ok := wholeMark(v.text); ok {
			v.text = shownFor(m, r)
			if m.number {
				v.kind = number
			}
			return v
		}
		v.text = expand(v.text, func(m mark) string { return shownFor(m, r) })
		return v
	}
	return v.mapped(func(item value) value { return show(r, item) })
}

// find returns the line that matches a call; said is the reason if no line matches.
func (p *Player) find(in *http.Request, body []byte) (r *Recorded, said string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mask := &callMask{Mask: &p.mask}
	query, sent := mask.query(in.URL.RawQuery), mask.body(body)
	var met map[int]int
	asked := func(r *Recorded) string {
		met = map[int]int{}
		switch {
		case in.Method != r.Method || p.mask.formText(in.URL.Path) != r.Path:
			return fmt.Sprintf("%s %s", in.Method, in.URL.Path)
		case !p.equalRequest(r.query, query, met):
			return "another query"
		case !p.equalRequest(r.request, sent, met):
			return "another body"
		}
		return ""
	}
	if !p.ByContent {
		if p.next == len(p.lines) {
			return nil, p.refuse(in, "the cassette has ended")
		}
		r := &p.lines[p.next]
		if got := asked(r); got != "" {
			return nil, p.refuse(in, fmt.Sprintf("line %d of the cassette is %s %s, got %s", r.Number, r.Method, r.Path, got))
		}
		p.used[p.next] = true
		p.next++
		maps.Copy(p.means, met)
		return r, ""
	}
	last, means := -1, map[int]int{}
	for i := range p.lines {
		if asked(&p.lines[i]) != "" {
			continue
		}
		last, means = i, met
		if !p.used[i] {
			break
		}
	}
	if last < 0 {
		return nil, p.refuse(in, "no line of the cassette asks this: "+in.Method+" "+in.URL.Path)
	}
	p.used[last] = true
	maps.Copy(p.means, means)
	return &p.lines[last], ""
}

func (p *Player) refuse(in *http.Request, said string) string {
	p.failures = append(p.failures, in.Method+" "+in.URL.Path+": "+said)
	return said
}

// equalRequest reports whether a recorded part of a request equals the masked part of the sent request. A value that the caller
// received from the player must have the recorded placeholder. A value that the caller made up must match the same recorded
// placeholder at each use; equalRequest adds the matches to met.
func (p *Player) equalRequest(a value, sent []byte, met map[int]int) bool {
	if a.kind == absent || len(sent) == 0 {
		return (a.kind == absent) == (len(sent) == 0)
	}
	b, err := parseValue(sent)
	return err == nil && p.sameValue(a, b, met)
}

func (p *Player) sameValue(a, b value, met map[int]int) bool {
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.names) != len(b.names) {
		return false
	}
	for i := range a.names {
		if !p.sameText(a.names[i], b.names[i], met) {
			return false
		}
	}
	for i := range a.items {
		if !p.sameValue(a.items[i], b.items[i], met) {
			return false
		}
	}
	return p.sameText(a.text, b.text, met)
}

func (p *Player) sameText(a, b string, met map[int]int) bool {
	x, y := parseMarks(a), parseMarks(b)
	if len(x) != len(y) {
		return false
	}
	for i, piece := range x {
		n := y[i].mark.n
		if piece.mark.n == 0 || n == 0 || piece.mark.capitals != y[i].mark.capitals {
			if piece != y[i] {
				return false
			}
			continue
		}
		meant, known := p.means[n]
		if n <= p.lastKnown {
			meant, known = n, true
		}
		if known && meant != piece.mark.n {
			return false
		}
		met[n] = piece.mark.n
	}
	return true
}
