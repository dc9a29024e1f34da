package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// TestAlarms_Window raises the alarms of an hour: 32 different texts without a code under a prefix, and 32 codes scanned by one user,
// have 100 points.
func TestAlarms_Window(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, url string) {
		w := brew(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		id := w.apply("x", 10_000)
		listed := func() string {
			w.Admin("GET", "/statistics?wait=true", "")
			return w.Admin("GET", "/alarms", "").Body
		}
		scan := func(from, to int) {
			text := w.code(id, 0).CodeURL
			for i := from; i < to; i++ {
				w.ask("resolve", "trader", w.code(id, int64(i)).CodeURL)
				w.ask("resolve", "", text[:len(text)-2]+codes.Alphabet[i/8:i/8+1]+codes.Alphabet[i%8+8:i%8+9])
				w.ask("resolve", "", text[:len(text)-2]+"!!") // no text of a code
			}
		}
		scan(0, 31)
		scan(0, 31)
		assert.Contains(t, listed(), `"alarms":[]`, "31 codes and 31 unknown texts, each twice")
		scan(31, 39)
		list := listed()
		assert.Equal(t, strings.Count(list, `"code_index":-1`), 2, "alarms after 39 codes and 39 unknown texts: %s", list)
		assert.True(t, strings.Contains(list, fmt.Sprintf(" different codes of application %d.", id)) &&
			strings.Contains(list, `"account":"brand"`) && strings.Contains(list, `"unknown_texts":3`) &&
			strings.Contains(list, `"window_start":"2026-01-15T02:00:00Z","prefix":"P.URL.CN/"`), "the alarms say %s", list)
		assert.Contains(t, w.Admin("GET", "/alarms/export?language=zh", "").Body, "个前缀或模板为 P.URL.CN/、却不属于任何码的文本", "CSV")
		assert.Contains(t, w.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}
