package qrjumptest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// TestClient_ApplyActivateScanCodes applies for codes, activates them and scans one, with the helper methods of Server.
func TestClient_ApplyActivateScanCodes(t *testing.T) {
	srv := qrjumptest.Start(t)
	codes := srv.Apply("wxc0ffee0000000002", "c0ffee00000000000000000000000002", 10_000)
	codes.Activate(0, 99, client.CodeBinding{ActivityName: "Spring", ProductBrand: "Tea", ProductTitle: "Green",
		ProductCode: "6901234567892", WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/item/item"})
	if d := srv.ScanAs("alice", codes.Text(99)); d.Action != "open_mini_program" || d.AppID != "wxc0ffee0000000001" ||
		!strings.Contains(d.Path, "code_ticket=") {
		t.Errorf("scan of an active code = %+v, want the Mini Program with a ticket", d)
	}
	c := codes.Get(100)
	assert.True(t, !c.Active, "the code after the activated range = %+v, want it inactive", c)
	calls := srv.Calls(client.CallQuery{Path: "/intp/marketcode/codeactive"})
	assert.True(t, len(calls) == 1 && calls[0].Account == "wxc0ffee0000000002" && calls[0].ErrCode == 0,
		"calls = %+v, want one of the account", calls)
}

func TestClient_ExplainNotCounted(t *testing.T) {
	srv := qrjumptest.Start(t)
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	require.NoError(t, shop.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/t/t"}))
	e := srv.Explain("alice", "https://tea.example/t/7")
	assert.True(t, e.Action == "open_url" && len(e.Steps) != 0 && e.Steps[0].Verdict == "unpublished", "got %+v", e)
	err := shop.Wire.PublishRule(t.Context(), "https://other.example/")
	refused, ok := errors.AsType[*client.WireError](err)
	assert.True(t, ok && refused.Code != 0 && refused.RID != "", "got %v", err)
}

func TestClient_FrozenClock(t *testing.T) {
	srv := qrjumptest.Start(t)
	srv.Freeze()
	before := srv.Now()
	after := srv.Now()
	assert.True(t, after.Equal(before), "frozen clock goes from %v to %v", before, after)
	srv.Advance(time.Hour)
	after = srv.Now()
	assert.True(t, after.Sub(before) == time.Hour, "clock after Advance(1h) goes from %v to %v", before, after)
	srv.Run()
	for !srv.Now().After(before.Add(time.Hour)) {
	}
}

func TestClient_FaultResponsesPerPath(t *testing.T) {
	srv := qrjumptest.Start(t)
	for _, path := range []string{"/cgi-bin/menu/get", "/cgi-bin/menu/create"} {
		srv.Fail(qrjumptest.Fault{Path: path, Response: &client.FaultResponse{Body: []byte(`{"errcode":0,"path":"` + path + `"}`)}})
	}
	resp := require.Value(http.Get(srv.URL + "/cgi-bin/menu/get"))(t)
	resp.Body.Close()
	list := srv.Faults()
	assert.True(t, len(list) == 2 && list[0].TriggerCount+list[1].TriggerCount == 1, "got %+v", list)
}
