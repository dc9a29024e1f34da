package alarms

import (
	"embed"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// Reasons lists the statistics that contributed to the alarm's score, the largest contribution first: see docs/alarms.md.
func (a Alarm) Reasons() (list []i18n.Message) {
	w := a.Details
	say := func(key string, values ...any) { list = append(list, catalog.Text(key, values...)) }
	switch a.Kind {
	case Spoiled:
		say("spoiled")
	case BeforeActivation:
		say("before_activation", w.UsersBeforeActivation)
	case AfterRedemption:
		say("after_redemption", w.UsersAfterRedemption)
	case UnknownBurst:
		say("unknown_burst", w.UnknownTexts, w.Prefix, w.WindowStart.Format("2006-01-02 15:04"))
		return list
	case ManyCodes:
		say("many_codes", w.Codes, a.Batch, w.WindowStart.Format("2006-01-02 15:04"))
		return list
	}
	say("scanned", catalog.Text("times", w.Scans), catalog.Text("days", max(w.Days, 1)))
	if w.ImpossibleTravelCount > 0 {
		say("trips", w.ImpossibleTravelCount)
	}
	if w.Users > 3 {
		say("users", w.Users)
	}
	if w.Regions > 2 {
		say("regions", w.Regions)
	}
	if w.Networks > 4 {
		say("networks", w.Networks)
	}
	return list
}
