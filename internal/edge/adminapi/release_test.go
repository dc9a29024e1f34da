package adminapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// The old owner of a prefix that is released is told so. Behaviour(message.released).
func TestReleasePrefix_OwnerTold(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	told := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		told <- string(b)
	}))
	t.Cleanup(receiver.Close)
	s.Admin("PUT", "/accounts/cafe", `{"kind":"mini_program","versions":["release"],"message_url":"`+receiver.URL+`"}`)
	s.Admin("POST", "/rules/force-delete", `{"prefix":"https://cafe.example/t/","reason":"sold"}`)
	want := "<Event><![CDATA[qrcodejump_prefix_force_deleted]]></Event><Prefix><![CDATA[https://cafe.example/t/]]></Prefix><Reason><![CDATA[sold"
	event := <-told
	assert.True(t, strings.Contains(event, want), "the event is %s, want %s in it", event, want)
}
