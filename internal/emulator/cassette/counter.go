package cassette

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// counters lists the fields whose start value depends on calls made before the recording; only their changes are compared.
var counters = []string{"qrcodejump_pub_quota", "total_count", "used", "remain"}

// aboutCounter reports whether the behaviour with this id describes how a counter counts. Behaviours are matched by id only;
// aboutCounter does not read their settings.
func aboutCounter(id string) bool {
	return id == "rules.edit.unchecked" || id == "rules.undo" || strings.HasPrefix(id, "rules.publish.") ||
		strings.HasPrefix(id, "quota.") || strings.HasPrefix(id, "wire.rate.")
}

// counter identifies one counter field of an account or a platform.
type counter struct {
	who  int // number of the account or platform; negative: number of a token whose owner is unknown
	name string
}

// reading is the last known value of a counter on the platform (theirs) and on the local server (ours).
type reading struct {
	theirs, ours int
	line         int
	at           time.Time
}

// spending identifies the calls of one account or platform to one path. Calls that may use up the publish quota are also recorded
// under the path rulePath.
type spending struct {
	who  int
	path string
}

// counting holds the counter readings of a player and the calls since each reading.
type counting struct {
	read  map[string]map[counter]reading // for each path: the last readings of the counters that are changed by calls to the path
	spent map[spending][]string          // X-Qrjump-Trace headers of the calls since the last reading
}

func newCounting() counting {
	return counting{read: map[string]map[counter]reading{}, spent: map[spending][]string{}}
}

// callerOf returns the number of the account or platform that made the call, or the negated token number if the caller is unknown.
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

// changesRules reports whether a call to path may use up the publish quota.
func changesRules(path string) bool {
	call, ofRules := strings.CutPrefix(path, rulePath)
	return ofRules && call != "get" && call != "download"
}

// ofQuotas is the time zone in which quota periods (days and months) begin.
var ofQuotas = time.FixedZone("UTC+8", 8*60*60)

// counter compares the changes of a counter since its last reading on the platform (now: remote) and on the local server (now: local).
func (c *comparison) counter(location, name string, remote, local int) {
	path, period := rulePath, "2006-01"
	switch name {
	case "qrcodejump_pub_quota":
	case "total_count":
		period = "" // total_count is not reset when a new period begins
	default:
		path, period = c.line.request.field("cgi_path").text, "2006-01-02"
	}
	if c.read[path] == nil {
		c.read[path] = map[counter]reading{}
	}
	key := counter{c.callerOf(c.line), name}
	oldReading, known := c.read[path][key]
	c.read[path][key] = reading{theirs: remote, ours: local, line: c.line.Number, at: c.line.OccurredAt}
	if !known || oldReading.at.In(ofQuotas).Format(period) != c.line.OccurredAt.In(ofQuotas).Format(period) ||
		remote-oldReading.theirs == local-oldReading.ours {
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

// maxCauses limits the calls that are stored as possible causes of a difference between two counter readings.
const maxCauses = 16

// spend records a replayed call as a possible cause of later differences between counters.
func (p *player) spend(r *Recorded, got answered) {
	index := p.callerOf(r)
	paths := []string{r.Path}
	if changesRules(r.Path) {
		paths = append(paths, rulePath)
	}
	for _, path := range paths {
		if list := p.spent[spending{index, path}]; len(list) < maxCauses {
			p.spent[spending{index, path}] = append(list, got.header.Get("X-Qrjump-Trace"))
		}
	}
	switch {
	case !r.worked():
	case r.Path == rulePath+"get":
		delete(p.spent, spending{index, rulePath})
	case r.Path == "/cgi-bin/openapi/quota/get":
		delete(p.spent, spending{index, r.request.field("cgi_path").text})
	case strings.Contains(r.Path, "clear"): // the call resets call counts, including counts from before the recording
		p.read = map[string]map[counter]reading{rulePath: p.read[rulePath]}
	}
}

// forget deletes the readings of the counters that a skipped call may have changed on the platform but not on the local server.
func (p *player) forget(r *Recorded) {
	switch {
	case strings.HasPrefix(r.Path, "/scan/"), slices.Contains(browserPages, r.Path):
	case strings.HasPrefix(r.Path, "/admin/"):
		p.counting = newCounting()
	default:
		p.forgetPath(r.Path)
	}
}

// forgetPath deletes the counter readings of an endpoint.
func (p *player) forgetPath(path string) {
	path, _, _ = strings.Cut(path, "?")
	delete(p.read, path)
	if changesRules(path) {
		delete(p.read, rulePath)
	}
}
