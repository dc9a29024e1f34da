package stats

import "fmt"

// Reason is one of the reasons of an alarm, for people.
type Reason struct {
	English string `json:"english"`
	Chinese string `json:"chinese"`
}

// Reasons say what gave a code its points, the heaviest first: see docs/alarms.md. This
// is the one book of these words; what shows an alarm takes them from it.
func (a Alarm) Reasons() []Reason {
	w := a.Why
	list := []Reason{}
	say := func(english, chinese string, n ...any) {
		list = append(list, Reason{fmt.Sprintf(english, n...), fmt.Sprintf(chinese, n...)})
	}
	if a.Kind == Spoiled {
		say("A printer reported it as spoiled, and it was scanned all the same.", "印刷厂已将其报废，却仍被扫到。")
	}
	days := max(w.Days, 1)
	list = append(list, Reason{fmt.Sprintf("It was scanned %s within %s.", times(w.Scans), onlyOr(days, "a day", "days")),
		fmt.Sprintf("%d 天内被扫 %d 次。", days, w.Scans)})
	switch {
	case w.Trips == 1:
		say("Once it was in two places with too little time between them.", "1 次在过短时间内先后出现在两地。")
	case w.Trips > 1:
		say("%d times it was in two places with too little time between them.", "%d 次在过短时间内先后出现在两地。", w.Trips)
	}
	if w.Users > 3 {
		say("%d different people scanned it.", "%d 个不同的人扫过。", w.Users)
	}
	if w.Regions > 2 {
		say("It was scanned in %d regions.", "在 %d 个地区被扫。", w.Regions)
	}
	if w.Networks > 4 {
		say("It was scanned from %d networks.", "来自 %d 个网络。", w.Networks)
	}
	return list
}

func times[N int | int64](n N) string { return onlyOr(n, "once", "times") }

// onlyOr is one for 1, and else the number with its noun.
func onlyOr[N int | int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf("%d %s", n, many)
}
