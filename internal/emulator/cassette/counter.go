package cassette

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// counters are fields that begin at what was spent before the recording: they are
// compared by their change.
var counters = []string{"qrcodejump_pub_quota", "total_count", "used", "remain"}

// aboutCounter reports whether a behaviour says what a counter counts. It is named by its id: nothing is decided by it here.
func aboutCounter(id string) bool {
	return id == "rules.edit.unchecked" || id == "rules.undo" || strings.HasPrefix(id, "rules.publish.") ||
		strings.HasPrefix(id, "quota.") || strings.HasPrefix(id, "wire.rate.")
}

// counter is one of an account or a platform.
type counter struct {
	who  int // number of the party; negative: of a token whose party is unknown
	name string
}

// reading is the value of a counter when it was last read.
type reading struct {
	theirs, ours int
	line         int
	at           time.Time
}

// spending identifies the calls that change a counter: those of an account to an endpoint. Of the quota of publishes all calls that
// change rules are one endpoint.
type spending struct {
	who  int
	path string
}

// counting is a player's state of counters.
type counting struct {
	read  map[string]map[counter]reading // by the path that they count
	spent map[spending][]string          // the X-Qrjump-Trace of calls since the last reading
}

func newCounting() counting {
	return counting{read: map[string]map[counter]reading{}, spent: map[spending][]string{}}
}

// callerOf makes a line's call.
func (p *player) callerOf(r *Recorded) int {
	token := asStandIn(r.query.field("access_token"))
	if token.n == 0 {
		token = asStandIn(r.query.field("component_access_token"))
	}
	if owner, known := p.stage.owner[token.n]; known {
		return owner
	}
	return -token.n
}

// changesRules reports whether a call may spend publishes.
func changesRules(path string) bool {
	call, ofRules := strings.CutPrefix(path, rulePath)
	return ofRules && call != "get" && call != "download"
}

// ofQuotas is the default time zone of quotas.
var ofQuotas = time.FixedZone("UTC+8", 8*60*60)

// counter compares a counter with ours by how they changed since they were read last.
func (c *comparison) counter(location, name string, remote, local int) {
	path, period := rulePath, "2006-01"
	switch name {
	case "qrcodejump_pub_quota":
	case "total_count":
		period = "" // of no period
	default:
		path, period = c.line.request.field("cgi_path").text, "2006-01-02"
	}
	if c.read[path] == nil {
		c.read[path] = map[counter]reading{}
	}
	key := counter{c.callerOf(c.line), name}
	oldReading, known := c.read[path][key]
	c.read[path][key] = reading{theirs: remote, ours: local, line: c.line.Number, at: c.line.OccurredAt}
	if !known || oldReading.at.In(ofQuotas).Format(period) != c.line.OccurredAt.In(ofQuotas).Format(period) || remote-oldReading.theirs == local-oldReading.ours {
		return
	}
	c.differ(Value, location, fmt.Sprintf("%d, %s than on line %d", remote, moved(remote-oldReading.theirs), oldReading.line),
		fmt.Sprintf("%d, %s", local, moved(local-oldReading.ours)))
	c.differences[len(c.differences)-1].causes = slices.Clone(c.spent[spending{key.who, path}])
}

func moved(step int) string {
	switch {
	case step < 0:
		return fmt.Sprintf("%d fewer", -step)
	case step > 0:
		return fmt.Sprintf("%d more", step)
	}
	return "no other"
}

// mostCauses is the maximum number of calls between two readings of a counter that are kept for the rows of a difference.
const mostCauses = 16

// spend notes a call that our server answered.
func (p *player) spend(r *Recorded, got answered) {
	index := p.callerOf(r)
	paths := []string{r.Path}
	if changesRules(r.Path) {
		paths = append(paths, rulePath)
	}
	for _, path := range paths {
		if list := p.spent[spending{index, path}]; len(list) < mostCauses {
			p.spent[spending{index, path}] = append(list, got.header.Get("X-Qrjump-Trace"))
		}
	}
	switch {
	case !r.worked():
	case r.Path == rulePath+"get":
		delete(p.spent, spending{index, rulePath})
	case r.Path == "/cgi-bin/openapi/quota/get":
		delete(p.spent, spending{index, r.request.field("cgi_path").text})
	case strings.Contains(r.Path, "clear"): // what was there before the recording is gone as well
		p.read = map[string]map[counter]reading{rulePath: p.read[rulePath]}
	}
}

// forget forgets the counters that a call moved there and not here.
func (p *player) forget(r *Recorded) {
	switch {
	case strings.HasPrefix(r.Path, "/scan/"), slices.Contains(browserPages, r.Path):
	case strings.HasPrefix(r.Path, "/admin/"):
		p.counting = newCounting()
	default:
		p.forgetPath(r.Path)
	}
}

// forgetPath forgets the counters of an endpoint.
func (p *player) forgetPath(path string) {
	path, _, _ = strings.Cut(path, "?")
	delete(p.read, path)
	if changesRules(path) {
		delete(p.read, rulePath)
	}
}
