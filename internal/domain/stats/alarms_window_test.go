package stats_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// A node that starts to count within an hour continues the window of that hour, an alarm is raised once, and an erasure replaces the
// number of the user in the alarm.
func TestAlarmsWindow_SeveralNodes(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n, user := twoNodes(t, s), scanlog.UserHash{1}
		scans := func(from, to int64) (list []scanlog.Event) {
			for i := from; i < to; i++ {
				e := scanlog.Event{OccurredAt: n.now, User: user, Batch: 7, Index: i, Kind: "code"}
				binary.BigEndian.PutUint64(e.ID[:], uint64(n.now.UnixMilli())<<16)
				binary.BigEndian.PutUint64(e.ID[8:], uint64(i))
				list = append(list, e)
			}
			return list
		}
		raised := func(want int) []alarms.Alarm {
			list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{Limit: 10})
			require.True(t, err == nil && len(list) == want, "%d alarms, want %d; %v: %+v", len(list), want, err, list)
			return list
		}
		n.count(n.a, scans(0, 31))
		raised(0)
		n.count(n.b, scans(31, 32)) // as after a restart
		n.count(n.a, scans(32, 40))
		assert.Equal(t, raised(1)[0].Details.Codes, 32, "codes of the alarm")
		n.now = n.now.Add(time.Minute)
		require.NoError(t, assert.ErrorOf(n.a.Alarms.Dismiss(t.Context(), 1, "eve", "stocktaking")))
		n.count(scantest.NewCounter(s, n.log), scans(40, 60))
		raised(1)
		n.now = n.now.Add(time.Hour)
		n.count(n.b, scans(0, 32))
		before := raised(2)[1]
		require.NoError(t, assert.ErrorOf(n.a.Erase(t.Context(), user)))
		after := raised(2)[1]
		assert.True(t, before.Index < 0 && after.Index < 0 && before.Index != after.Index, "%d, erased: %d", before.Index, after.Index)
	})
}
