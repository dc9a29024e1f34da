// Package timebucket numbers hours, days, weeks and months; scans are counted and stored by these numbers.
package timebucket

import "time"

// Hour returns the hour of a time, in hours since 1970-01-01 UTC. Time zones have offsets of whole hours, so an hour lies within
// one day in every zone.
func Hour(t time.Time) int64 { return floorDiv(t.Unix(), 3600) }

// Day returns the day of an hour in the time zone that is offset hours east of UTC, in days since 1970-01-01 in that zone.
func Day(hour, offset int64) int64 { return floorDiv(hour+offset, 24) }

// HourOfDay returns the hour within its day, 0 to 23, in the time zone that is offset hours east of UTC.
func HourOfDay(hour, offset int64) int64 { return hour + offset - 24*Day(hour, offset) }

// Week returns the week of a day, beginning on Monday, in weeks since the week of 1970-01-01.
func Week(day int64) int64 { return floorDiv(day+3, 7) }

// Monday returns the first day of a week.
func Monday(week int64) int64 { return 7*week - 3 }

// Month returns the calendar month of a day, in months since January 1970.
func Month(day int64) int64 {
	y, m, _ := time.Unix(day*86_400, 0).UTC().Date()
	return int64(y-1970)*12 + int64(m) - 1
}

// FirstDay returns the first day of a month.
func FirstDay(month int64) int64 {
	return time.Date(1970, time.Month(1+month), 1, 0, 0, 0, 0, time.UTC).Unix() / 86_400
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
