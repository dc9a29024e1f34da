package alarms

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// recommended are the thresholds that docs/alarms.md recommends for the worlds, and at least the default.
var recommended = [...]int{100, 135, 180, 215, 135, 155, 210, 275, 160, 180, 175, 185, 270}

// TestUserPoints_FalseAlarmRate keeps the promise of docs/en/how/copied-codes.md: if codes are activated at the sale and redeemed by
// the buyer's first scan, at most one honest code in 1,000 raises an alarm before its activation or after its redemption.
func TestUserPoints_FalseAlarmRate(t *testing.T) {
	t.Parallel()
	const codes = 20_000
	for i, one := range worlds {
		w := &market{r: rand.New(rand.NewPCG(8, 1)), located: true, world: one}
		j := &journeys{r: rand.New(rand.NewPCG(33, 1)), world: one}
		var alarms [2][2]int // by generator; before the activation, after the redemption
		for range codes {
			for g, generate := range []func() ([]sight, int){
				func() ([]sight, int) { list := w.scansOf(); return list, w.sold },
				func() ([]sight, int) { list := j.item(); return list, j.sold },
			} {
				list, sold := generate()
				for k, part := range [][]sight{list[:sold], list[sold:]} {
					var users hyperloglog.Users
					for _, s := range part {
						user := scanlog.UserHash{byte(s.user), byte(s.user >> 8), byte(s.user >> 16), byte(s.user >> 24), 1}
						users.AddNumber(hyperloglog.Number(user))
					}
					if userPoints(&users) >= recommended[i] {
						alarms[g][k]++
					}
				}
			}
		}
		t.Logf("%s at %d: %v of %d", one.name, recommended[i], alarms, codes)
		for g, counts := range alarms {
			for k, n := range counts {
				assert.True(t, n <= codes/1000, "%s, generator %d, kind %d: %d false alarms of %d codes", one.name, g+1, k, n, codes)
			}
		}
	}
}

// TestUserPoints_Doubling verifies that the points grow by 29 with each doubling of the users, and are 0 without users.
func TestUserPoints_Doubling(t *testing.T) {
	var users hyperloglog.Users
	assert.Equal(t, userPoints(&users), 0, "userPoints(no users)")
	for n := range 64 {
		users.AddNumber(uint64(n + 1))
		assert.Equal(t, userPoints(&users), int(29*math.Log2(float64(n+1))), "userPoints(users)")
	}
}
