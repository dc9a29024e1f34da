package api_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

// byThemselves lets accounts link with tokens of their own.
var byThemselves = set("/settings", `{"behaviours":{"link.own_token_taken":"allow"}}`)

// held makes links wait for both administrators.
var held = set("/settings", `{"behaviours":{"link.own_token_taken":"allow"},"link_approval_required":true}`)

// opens reports whether a scan of a text opens a Mini Program.
func opens(t *testing.T, s *servertest.Server, text string) bool {
	t.Helper()
	var d struct{ Action string }
	s.Do("POST", "/scan/v1/resolve", `{"text":`+quoted(text)+`}`).JSON(t, &d)
	return d.Action == "open_mini_program"
}

func mustLink(t *testing.T, s *servertest.Server, calls ...how) {
	t.Helper()
	for _, call := range calls {
		if a := call(s); a.Status != 200 || a.Code(t) != 0 {
			t.Fatal(a.Body)
		}
	}
}
