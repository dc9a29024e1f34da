package main

import (
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
)

// span matches a duration such as 90m, 36h, 7d or 2w; a day is always 24 hours.
var span = regexp.MustCompile(`^(\d{1,6})(s|m|h|d|w)$`)

// units maps each unit to its duration.
var units = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}

// parseSpan parses a duration with a single unit, such as 7d or 2w, or a Go duration such as 1h30m.
func parseSpan(text string) (time.Duration, bool) {
	if found := span.FindStringSubmatch(text); found != nil {
		n, _ := strconv.Atoi(found[1]) // six digits
		return time.Duration(n) * units[found[2]], time.Duration(n) <= math.MaxInt64/units[found[2]]
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// readSpan parses the value of a duration flag.
func readSpan(in *kong.DecodeContext, flag reflect.Value) error {
	var text string
	if err := in.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, ok := parseSpan(text)
	if !ok {
		return misused("moment.invalid_duration", text)
	}
	flag.SetInt(int64(d))
	return nil
}

// parseTime parses a point in time: RFC 3339, a day, now, today, yesterday, tomorrow, or a duration. The duration 2h means 2 hours ago, or
// in 2 hours if isAhead is true. kind is the name of the flag for an error.
func parseTime(kind, text string, isAhead bool) (time.Time, error) {
	now := time.Now().In(zone).Truncate(time.Second)
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, zone)
	switch text {
	case "now":
		return now, nil
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	case "tomorrow":
		return today.AddDate(0, 0, 1), nil
	}
	if d, ok := parseSpan(text); ok && d >= 0 && isAhead {
		return now.Add(d), nil
	} else if ok && d >= 0 {
		return now.Add(-d), nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		return day, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, misused("moment.invalid_time", kind, text)
	}
	return t, nil
}

// parseDay returns a bound of a time range in the form that the server accepts: a day stays a day, which the server interprets in its own
// time zone; any other text becomes a point in time.
func parseDay(kind, text string) (string, error) {
	if _, err := time.Parse(time.DateOnly, text); err == nil || slices.Contains([]string{"", "today", "yesterday", "tomorrow"}, text) {
		return text, nil
	}
	t, err := parseTime(kind, text, false)
	return t.UTC().Format(time.RFC3339), err
}
