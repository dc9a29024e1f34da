package harness

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// maxTokenCalls is the maximum number of token requests with a wrong secret before a library must give up.
const maxTokenCalls = 10

// WrongSecret checks a library with a wrong AppSecret. request makes a call and returns the library's error text; it must
// return after at most ten token requests, each of which the server answers with 40125. A library that treats the response
// as an invalid token retries without limit: one made 116,496 calls in 45 seconds when it got 40001.
func WrongSecret(t testing.TB, s *Server, request func() string) {
	t.Helper()
	before := s.lastCall(t)
	results := make(chan string, 1)
	go func() {
		defer close(results) // also if request ends the test
		results <- request()
	}()
	var answer string
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for done := false; !done; {
		select {
		case answer = <-results:
			done = true
		case <-poll.C:
		}
		codes := s.tokenCalls(t, before)
		if len(codes) > maxTokenCalls {
			t.Fatalf("%d token requests with a wrong secret, want at most %d; result %q", len(codes), maxTokenCalls, answer)
		}
		for _, code := range codes {
			if code != 40125 {
				t.Fatalf("token request with a wrong secret: errcode %d, want 40125", code)
			}
		}
		if done && len(codes) == 0 {
			t.Fatalf("no token request; result of the library %q", answer)
		}
		if done {
			t.Logf("%d token requests, then: %s", len(codes), answer)
		}
	}
	if !regexp.MustCompile(`40125|invalid appsecret`).MatchString(answer) {
		t.Errorf("result of the library = %q, want the server's error, 40125 invalid appsecret", answer)
	}
}

// A recordedCall is a call in the server's call log.
type recordedCall struct {
	RID     string `json:"rid"`
	URL     string `json:"url"`
	ErrCode int    `json:"errcode"`
}

// calls returns the latest calls of the server's call log, newest first.
func (s *Server) calls(t testing.TB, limit string) []recordedCall {
	t.Helper()
	var list struct {
		Calls []recordedCall `json:"calls"`
	}
	if err := json.Unmarshal(s.admin(t, http.MethodGet, "/emulator/calls?limit="+limit, nil), &list); err != nil {
		t.Fatal(err)
	}
	return list.Calls
}

// lastCall returns the request id of the newest call, "" if there is none.
func (s *Server) lastCall(t testing.TB) string {
	t.Helper()
	if list := s.calls(t, "1"); len(list) > 0 {
		return list[0].RID
	}
	return ""
}

// tokenCalls returns the error codes of the token requests after the call with the request id after.
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
