package adminapi_test

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/cafe.yaml
var cafe string

// call calls the admin API and verifies that a failure is a problem document.
func call(t *testing.T, s *servertest.Server, method, path, body string) servertest.Answer {
	t.Helper()
	a := s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	if a.Status/100 != 2 {
		var p struct{ Status int }
		if a.JSON(t, &p); p.Status != a.Status || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s = %d %s %s, want a problem document", method, path, a.Status, a.Header.Get("Content-Type"), a.Body)
		}
	}
	return a
}

func TestScanExport_Complete(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	var ids []string
	for i, text := range []string{"https://cafe.example/t/1", "https://unknown.example/=2", "+49"} {
		body, err := json.Marshal(map[string]any{"text": text, "user": fmt.Sprintf("%032x", i), "ip": "203.0.113.77", "client": "=app/1"})
		require.NoError(t, err)
		id := s.Do("POST", "/scan/v1/resolve", string(body)).Text(t, "scan_id")
		require.True(t, id != "", "response to the scan of %s has no scan_id", text)
		ids = append(ids, id)
	}
	a := call(t, s, "GET", "/scans/export", "")
	assert.Equal(t, a.Header.Get("Content-Type"), "text/csv; charset=utf-8", "Content-Type")
	lines := require.Value(csv.NewReader(strings.NewReader(a.Body)).ReadAll())(t)
	assert.True(t, len(lines) == 4 && lines[1][0] == ids[0] && lines[3][0] == ids[2] && lines[0][4] == "client" && lines[1][4] == "'=app/1",
		"CSV export = %v", lines)
	a = call(t, s, "GET", "/scans/export?format=parquet", "")
	rows := require.Value(parquet.Read[struct {
		ID   string    `parquet:"scan_id"`
		At   time.Time `parquet:"occurred_at,timestamp(millisecond)"`
		Text string    `parquet:"text"`
	}](bytes.NewReader([]byte(a.Body)), int64(len(a.Body))))(t)
	assert.True(t, len(rows) == 3 && rows[1].ID == ids[1] && rows[1].At.Equal(servertest.Began) &&
		rows[1].Text == "https://unknown.example/=2", "Parquet export = %+v", rows)
	rule := lines[1][12]
	// A user ID may have the form of the hash in a scan.
	for query, want := range map[string]int{"?from=2026-01-16": 1, "?to=2026-01-14": 1, "?user=nobody": 1, "?rule=" + rule: 2,
		"?user=" + lines[1][2]: 2, fmt.Sprintf("?user=%032x", 0): 2, fmt.Sprintf("?user=%032x", 1): 2,
		"?format=csv&rule=999," + rule: 2, "?application_id=7&code_index=1": 1} {
		a := call(t, s, "GET", "/scans/export"+query, "")
		assert.True(t, strings.Count(a.Body, "\n") == want, "export%s has %d lines, want %d\n%s", query, strings.Count(a.Body,
			"\n"), want, a.Body)
	}
}

// newActivatedBatch applies for codes, activates the first hundred and returns the application.
func newActivatedBatch(t *testing.T, s *servertest.Server) int64 {
	t.Helper()
	batch := s.Apply("maker", "order", 10_000)
	s.Admin("POST", fmt.Sprintf("/batches/%d/activations", batch), `{"code_start":0,"code_end":99,
		"binding":{"activity_name":"Spring","product_brand":"Tea","product_title":"Green","product_code":"6901234567892","wxa_appid":"cafe","wxa_path":"pages/item"}}`)
	return batch
}

func codeText(t *testing.T, s *servertest.Server, batch, index int64) string {
	t.Helper()
	c := s.CodeText(batch, index)
	s.RegisterSecret(c)
	return c
}
