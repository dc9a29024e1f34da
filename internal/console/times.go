package console

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// zoneCookie keeps in which zone a reader wants to see times; none = that of the server.
const zoneCookie = "qrjump_zone"

// zones are those that a reader can choose, as far as the machine knows them.
var zones = sync.OnceValue(func() (known []string) {
	for _, name := range []string{"Asia/Shanghai", "Asia/Tokyo", "Asia/Singapore", "Asia/Kolkata", "Asia/Dubai", "Europe/Berlin",
		"Europe/London", "America/Sao_Paulo", "America/New_York", "America/Chicago", "America/Los_Angeles", "Australia/Sydney", "UTC"} {
		if _, err := time.LoadLocation(name); err == nil {
			known = append(known, name)
		}
	}
	return known
})

// Zones are for the form in the navigation, Zone is the one that was chosen.
func (view) Zones() []string { return zones() }

func (v view) Zone() string {
	if cookie, err := v.r.Cookie(zoneCookie); err == nil && slices.Contains(zones(), cookie.Value) {
		return cookie.Value
	}
	return ""
}

func (c *Console) setZone(v *visit, name string) {
	if name == "" || slices.Contains(zones(), name) {
		http.SetCookie(v.w, &http.Cookie{Name: zoneCookie, Value: name, Path: Root, MaxAge: 365 * 24 * 3600,
			SameSite: http.SameSiteStrictMode, HttpOnly: true, Secure: c.Secure(v.r)})
	}
}

// moments are the times of a finished page, as templates write them.
var moments = regexp.MustCompile(`<time datetime="([^"]+)">([^<]*)</time>`)

// times says the times of a page as its reader wants them: how long ago, and the exact one, in the reader's zone, behind that. A list
// of calls, which goes on while it is read, keeps the time of day.
func (v view) times(page string) string {
	here, now := time.Local, time.Now()
	if zone, err := time.LoadLocation(v.Zone()); err == nil && v.Zone() != "" {
		here = zone
	}
	if v.c.Now != nil {
		now = v.c.Now()
	}
	return moments.ReplaceAllStringFunc(page, func(found string) string {
		parts := moments.FindStringSubmatch(found)
		at, err := time.Parse(time.RFC3339, html.UnescapeString(parts[1]))
		if err != nil {
			return found
		}
		at = at.In(here)
		said := v.away(at, now)
		if len(parts[2]) == len(time.TimeOnly) {
			said = at.Format(time.TimeOnly)
		}
		return fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, at.Format(time.RFC3339),
			at.Format("2006-01-02 15:04:05 -07:00"), said)
	})
}

// away is how far a moment is from now: in words for a month, as its day before and after that.
func (v view) away(at, now time.Time) string {
	key, far := "ago.", now.Sub(at)
	if far < 0 {
		key, far = "ahead.", -far
	}
	if far < time.Minute {
		return v.say("ago.now")
	}
	for _, unit := range []struct {
		name       string
		one, below time.Duration
	}{{"minutes", time.Minute, time.Hour}, {"hours", time.Hour, 24 * time.Hour}, {"days", 24 * time.Hour, 30 * 24 * time.Hour}} {
		if far < unit.below {
			return v.say(key+unit.name, int(far/unit.one))
		}
	}
	return at.Format(time.DateOnly)
}
