package console

import (
	"fmt"
	"html/template"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// zoneCookie is the name of the cookie with the time zone in which a reader sees times; without the cookie the server's zone applies.
const zoneCookie = "qrjump_zone"

// zones lists the selectable time zones, limited to zones known to the operating system.
var zones = sync.OnceValue(func() (known []string) {
	for _, name := range []string{"Asia/Shanghai", "Asia/Tokyo", "Asia/Singapore", "Asia/Kolkata", "Asia/Dubai", "Europe/Berlin",
		"Europe/London", "America/Sao_Paulo", "America/New_York", "America/Chicago", "America/Los_Angeles", "Australia/Sydney", "UTC"} {
		if _, err := time.LoadLocation(name); err == nil {
			known = append(known, name)
		}
	}
	return known
})

// Zones returns the options of the time zone form, and Zone the selected zone.
func (v view) Zones() []choice {
	return append([]choice{{"", v.say("zone.server")}}, texts(zones())...)
}

func (v view) Zone() string {
	chosen := cookieOf(v.r, zoneCookie)
	return wordIf(slices.Contains(zones(), chosen), chosen)
}

// pageTime returns the time at which a page was rendered, and the time zone of its reader.
func (v view) pageTime() (now time.Time, zone *time.Location) {
	if v.zone == nil { // a list asks for each time
		v.zone = time.Local
		if chosen := v.Zone(); chosen != "" {
			v.zone, _ = time.LoadLocation(chosen) // Zone returns only known zones
		}
	}
	if v.c.Now != nil {
		return v.c.Now(), v.zone
	}
	return time.Now(), v.zone
}

// Time returns the distance of a time from now, with the exact time in the reader's zone as a tooltip.
func (v view) Time(value any) template.HTML {
	now, zone := v.pageTime()
	moment := momentOf(value).In(zone)
	return timeElement(moment, v.relativeTime(moment, now))
}

// Exact returns a time in the reader's zone.
func (v view) Exact(value any) template.HTML {
	_, zone := v.pageTime()
	moment := momentOf(value).In(zone)
	return timeElement(moment, moment.Format("2006-01-02 15:04:05"))
}

// Clock returns the time of day in the reader's zone, for a list of calls that keeps growing while it is read.
func (v view) Clock(value any) template.HTML {
	_, zone := v.pageTime()
	moment := momentOf(value).In(zone)
	return timeElement(moment, moment.Format(time.TimeOnly))
}

// Period returns the hour or day at which a statistics row begins, in the time zone of the statistics.
func (v view) Period(value any, interval string) template.HTML {
	moment := momentOf(value)
	return timeElement(moment, day(moment, interval))
}

// momentOf returns a time from an API response, in which optional times are pointers.
func momentOf(value any) time.Time {
	if pointer, is := value.(*time.Time); is {
		return *pointer
	}
	return value.(time.Time)
}

func timeElement(t time.Time, text string) template.HTML {
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `" title="` + t.Format("2006-01-02 15:04:05 -07:00") + `">` +
		template.HTMLEscapeString(text) + `</time>`)
}

// relativeTime returns the distance of a time from now in words, or its date if the distance is 30 days or more.
func (v view) relativeTime(t, now time.Time) string {
	key, far := "ago.", now.Sub(t)
	if far < 0 {
		key, far = "ahead.", -far
	}
	if far < time.Minute {
		return v.say("ago.now")
	}
	for _, unit := range []struct {
		name        string
		unit, limit time.Duration
	}{{"minutes", time.Minute, time.Hour}, {"hours", time.Hour, 24 * time.Hour}, {"days", 24 * time.Hour, 30 * 24 * time.Hour}} {
		if far < unit.limit {
			return v.say(key+unit.name, int(far/unit.unit))
		}
	}
	return t.Format(time.DateOnly)
}

// separated formats a number with thousands separators.
func separated[N int | int32 | int64](n N) string { return i18n.Grouped(int64(n)) }

// figure is a number that is formatted with thousands separators, even with %d.
type figure int64

// Format implements fmt.Formatter.
func (n figure) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, separated(int64(n))) }

// figureOf converts an integer to a figure.
func figureOf(n any) any {
	// Optional numbers in admin API responses are pointers; a named type such as time.Duration is not a count.
	if number := reflect.Indirect(reflect.ValueOf(n)); number.CanInt() && number.Type().PkgPath() == "" {
		return figure(number.Int())
	}
	return n
}

// named lists keys of texts whose numbers identify objects, so Say adds no separators; Say treats most keys "*.of" in the same way.
var named = []string{"batch", "package", "audit.fault", "codes.end", "serials.form"}

// Say returns a localised text in which counts have thousands separators.
func (v *request) Say(key string, values ...any) (string, error) {
	if strings.HasSuffix(key, ".of") && key != "orders.of" && key != "pages.of" || slices.Contains(named, key) {
		return v.Localizer.Say(key, values...)
	}
	return v.Localizer.Say(key, mapped(values, figureOf)...)
}
