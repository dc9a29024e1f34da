package stats_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/stats"
)

func TestReasonsCountInWords(t *testing.T) {
	for _, one := range []struct {
		why              stats.Why
		english, chinese string
	}{
		{stats.Why{Scans: 1}, "It was scanned once within a day.", "1 天内被扫 1 次。"},
		{stats.Why{Scans: 40, Days: 1}, "It was scanned 40 times within a day.", "1 天内被扫 40 次。"},
		{stats.Why{Scans: 40, Days: 9}, "It was scanned 40 times within 9 days.", "9 天内被扫 40 次。"},
	} {
		got := stats.Alarm{Why: one.why}.Reasons()
		if len(got) != 1 || got[0].English() != one.english || got[0].Chinese() != one.chinese {
			t.Errorf("%+v: %+v", one.why, got)
		}
	}
	if got := (stats.Alarm{Why: stats.Why{Scans: 2, Trips: 1}}).Reasons(); len(got) != 2 ||
		got[1].English() != "Once it was in two places with too little time between them." {
		t.Errorf("one trip: %+v", got)
	}
}
