package adminapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestReleasePrefix_OwnerTold verifies that the owner of a force-deleted prefix receives an event. Behaviour(message.released).
func TestReleasePrefix_OwnerTold(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	events := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		events <- string(b)
	}))
	t.Cleanup(receiver.Close)
	s.Admin("PUT", "/accounts/cafe", `{"kind":"mini_program","versions":["release"],"message_url":"`+receiver.URL+`"}`)
	s.Admin("POST", "/rules/force-delete", `{"prefix":"https://cafe.example/t/","reason":"sold"}`)
	want := "<Event><![CDATA[qrcodejump_prefix_force_deleted]]></Event><Prefix><![CDATA[https://cafe.example/t/]]></Prefix><Reason><![CDATA[sold"
	assert.Contains(t, <-events, want, "event")
}
