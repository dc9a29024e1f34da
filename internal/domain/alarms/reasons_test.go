package alarms

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestAlarmReasons_Plurals(t *testing.T) {
	for _, one := range []struct {
		why              Details
		english, chinese string
	}{
		{Details{Scans: 1}, "It was scanned once within a day.", "1 天内被扫 1 次。"},
		{Details{Scans: 40, Days: 1}, "It was scanned 40 times within a day.", "1 天内被扫 40 次。"},
		{Details{Scans: 40, Days: 9}, "It was scanned 40 times within 9 days.", "9 天内被扫 40 次。"},
	} {
		got := Alarm{Details: one.why}.Reasons()
		assert.True(t, len(got) == 1 && got[0].English() == one.english && got[0].Chinese() == one.chinese, "%+v: %+v", one.why, got)
	}
	got := (Alarm{Details: Details{Scans: 2, ImpossibleTravelCount: 1}}).Reasons()
	assert.True(t, len(got) == 2 && strings.HasSuffix(got[1].English(), "for the time between the scans: once."), "one trip: %+v", got)
}
