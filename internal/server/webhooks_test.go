package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	reference "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestWebhook_DeliversSignedScans verifies that a webhook receives the scans of its codes and rules and no others, signed according to the
// Standard Webhooks specification, and that messages contain neither users nor tickets.
func TestWebhook_DeliversSignedScans(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{Outbound: &safehttp.Client{}})
	w.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
	type message struct {
		header http.Header
		body   []byte
	}
	messages := make(chan message, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.True(t, err == nil, "%v", err)
		messages <- message{r.Header, body}
	}))
	defer receiver.Close()
	id := w.apply("one", 10_000)
	w.activate(id, 0, 99)
	var list struct {
		Rules []struct {
			ID     int64
			Prefix string
		}
	}
	w.Admin("GET", "/rules", "").JSON(t, &list)
	var created struct {
		Webhook struct{ ID int64 }
		Secret  string
	}
	w.Admin("POST", "/webhooks", fmt.Sprintf(`{"url":%q,"codes":[{"application_id":%d,"from":5,"to":6}],"rules":[%d],"alarms":true}`,
		receiver.URL+"/hook?token=t0ken", id, list.Rules[0].ID)).JSON(t, &created)
	w.RegisterSecret(created.Secret)
	w.RegisterSecret("t0ken")
	verifier := require.Value(reference.NewWebhook(created.Secret))(t)
	w.callScan("resolve", "ann", w.code(id, 4).CodeURL)
	w.callScan("resolve", "ann", w.code(id, 5).CodeURL)
	w.callScan("resolve", "ann", "https://p.url.cn/")
	w.callScan("resolve", "ann", "https://elsewhere.example/")
	w.Admin("POST", fmt.Sprintf("/webhooks/%d/test", created.Webhook.ID), "")
	got := map[string]bool{}
	for len(got) < 3 {
		m := <-messages
		err := verifier.VerifyIgnoringTimestamp(m.body, m.header)
		assert.NoErrorf(t, err, "%v: %v", err, m.header)
		var body struct {
			Type string
			Data struct {
				Action, Kind, Text string
				AppID              string
				CodeIndex          *int64 `json:"code_index"`
				RuleID             int64  `json:"rule_id"`
			}
		}
		require.NoError(t, json.Unmarshal(m.body, &body))
		assert.True(t, !strings.Contains(string(m.body), "ann") && !strings.Contains(string(m.body), "code_ticket"),
			"the message contains the user or a ticket: %s", m.body)
		key := body.Type + " " + body.Data.Kind
		if body.Data.CodeIndex != nil {
			key += fmt.Sprint(" ", *body.Data.CodeIndex)
		}
		got[key] = true
	}
	for _, want := range []string{"scan.recorded code 5", "scan.recorded rule", "webhook.test "} {
		assert.True(t, got[want], "messages = %v, want %q", got, want)
	}
	var deliveries struct {
		Deliveries []struct {
			ID    int64
			State string
		}
	}
	w.Admin("GET", "/deliveries", "").JSON(t, &deliveries)
	assert.True(t, len(deliveries.Deliveries) == 3, "%+v", deliveries)
	w.Admin("POST", fmt.Sprintf("/deliveries/%d/replay", deliveries.Deliveries[0].ID), "")
	<-messages
	w.Admin("POST", fmt.Sprintf("/batches/%d/packages", id), `{"code_start":1000,"code_end":1999,"printer":"acme","formats":["lines"]}`)
	w.Advance(15 * 24 * time.Hour)
	reminders := string((<-messages).body) + string((<-messages).body)
	assert.True(t, strings.Contains(reminders, "not_downloaded") && strings.Contains(reminders, "not_activated"), "%s", reminders)
	w.Admin("PUT", fmt.Sprintf("/webhooks/%d", created.Webhook.ID), fmt.Sprintf(`{"url":%q,"alarms":true,"enabled":false}`, receiver.URL))
	a := w.Admin("GET", "/webhooks", "")
	assert.True(t, strings.Contains(a.Body, `"alarms":true,"enabled":false`) && !strings.Contains(a.Body, created.Secret), "%s", a.Body)
	w.Admin("DELETE", fmt.Sprintf("/webhooks/%d", created.Webhook.ID), "")
	a = w.Do("DELETE", fmt.Sprintf("/admin/v1/webhooks/%d", created.Webhook.ID), "", "Authorization: Bearer "+
		servertest.AdminToken)
	assert.True(t, a.Status == 404, "%d %s", a.Status, a.Body)
}

// TestWebhook_ResponseBodyIgnored verifies that a 2xx status acknowledges a delivery, whatever the response body is.
func TestWebhook_ResponseBodyIgnored(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Outbound: &safehttp.Client{}})
	s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Encoding", r.URL.Query().Get("coding"))
		w.Write(make([]byte, 70_000))
	}))
	defer receiver.Close()
	for n, query := range []string{"", "?coding=gzip"} {
		s.Admin("POST", "/webhooks", fmt.Sprintf(`{"url":%q,"alarms":true}`, receiver.URL+"/"+query))
		s.Admin("POST", fmt.Sprintf("/webhooks/%d/test", n+1), "")
		var list struct {
			Deliveries []struct {
				State    string
				Attempts int
				Error    string
			}
		}
		for len(list.Deliveries) == 0 || list.Deliveries[0].Attempts == 0 {
			s.Admin("GET", fmt.Sprintf("/deliveries?webhook=%d", n+1), "").JSON(t, &list)
		}
		delivery := list.Deliveries[0]
		assert.True(t, delivery.State == "delivered" && delivery.Attempts == 1, "%q: %+v", query, delivery)
	}
}
