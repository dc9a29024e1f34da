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
	say("It was scanned %[1]d times within %[2]d days.", "%[2]d 天内被扫 %[1]d 次。", w.Scans, max(w.Days, 1))
	if w.Trips > 0 {
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
