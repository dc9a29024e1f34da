package harness

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// maxTokenCalls is how often a library may ask for a token with a wrong secret before it gives up.
const maxTokenCalls = 10

// WrongSecret lets a library ask with a wrong AppSecret. ask returns what the library says; its call must end by itself
// after at most ten calls for a token, each of which the server answers 40125. A library that takes the answer for a
// token's fault asks again for ever: one made 116,496 calls in 45 seconds when it got 40001.
func WrongSecret(t testing.TB, s *Server, ask func() string) {
	t.Helper()
	before := s.lastCall(t)
	said := make(chan string, 1)
	go func() {
		defer close(said) // also where ask ends the test
		said <- ask()
	}()
	var answer string
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for ended := false; !ended; {
		select {
		case answer = <-said:
			ended = true
		case <-look.C:
		}
		codes := s.tokenCalls(t, before)
		if len(codes) > maxTokenCalls {
			t.Fatalf("%d calls for a token with a wrong secret, want at most %d; it says %q", len(codes), maxTokenCalls, answer)
		}
		for _, code := range codes {
			if code != 40125 {
				t.Fatalf("a call for a token with a wrong secret was answered %d, want 40125", code)
			}
		}
		if ended && len(codes) == 0 {
			t.Fatalf("no call for a token came; the library says %q", answer)
		}
		if ended {
			t.Logf("%d calls for a token, then: %s", len(codes), answer)
		}
	}
	if !regexp.MustCompile(`40125|invalid appsecret`).MatchString(answer) {
		t.Errorf("the library says %q, want what the server answered, 40125 invalid appsecret", answer)
	}
}

// A madeCall is a call as the server recorded it.
type madeCall struct {
	RID     string `json:"rid"`
	URL     string `json:"url"`
	ErrCode int    `json:"errcode"`
}

// calls are the latest calls that the server recorded, newest first.
func (s *Server) calls(t testing.TB, limit string) []madeCall {
	t.Helper()
	var list struct {
		Calls []madeCall `json:"calls"`
	}
	if err := json.Unmarshal(s.admin(t, http.MethodGet, "/emulator/calls?limit="+limit, nil), &list); err != nil {
		t.Fatal(err)
	}
	return list.Calls
}

// lastCall is the request id of the newest call, "" = there was none.
func (s *Server) lastCall(t testing.TB) string {
	t.Helper()
	if list := s.calls(t, "1"); len(list) > 0 {
		return list[0].RID
	}
	return ""
}

// tokenCalls are the answers to the calls for a token that came after a call.
func (s *Server) tokenCalls(t testing.TB, after string) (codes []int) {
	t.Helper()
	for _, call := range s.calls(t, "1000") {
		if call.RID == after {
			break
		}
		path, _, _ := strings.Cut(call.URL, "?")
		switch path {
		case "/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component/api_component_token":
			codes = append(codes, call.ErrCode)
		}
	}
	return codes
}
