package api_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

// The options that single clients need. Contract: clients 2, 5, 16.
func TestAccountOptions_ClientQuirks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.OK("shop", "add",
		`{"prefix":"https://shop.example/a","path":"p","permit_sub_rule":1,"open_version":1,"is_edit":0,"debug_url":["https://shop.example/a?1"]}`)
	get := func() int {
		return s.Do("GET", "/cgi-bin/wxopen/qrcodejumpget?get_type=0&access_token="+s.Token("shop"), "").Code(t)
	}
	links := func() int { return len(*list(t, s, "shop", `{}`).RuleList[0].DebugURL) }
	edit := `{"prefix":"https://shop.example/a","path":"p","permit_sub_rule":1,"open_version":1,"is_edit":1,"debug_url":[]}`

	empty := func(what string, want int) {
		t.Helper()
		for _, call := range []string{"get", "download"} {
			if code := s.Rule("shop", call, "").Code(t); code != want {
				t.Errorf("an empty body on %s answers %d %s, want %d", call, code, what, want)
			}
		}
	}
	empty("by default", 0)
	if code := get(); code != 43002 {
		t.Errorf("GET on get answers %d, want 43002", code)
	}
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.get.by_get":"allow","wire.body.empty_accepted":"reject","rules.edit.keeps_empty":"allow"}}`)
	if code := get(); code != 0 {
		t.Errorf("GET on get answers %d, want 0 where rules.get.by_get is allowed", code)
	}
	if code := s.Do("GET", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"), "").Code(t); code != 43002 {
		t.Errorf("GET on publish answers %d, want 43002 whatever is allowed", code)
	}
	empty("where wire.body.empty_accepted is rejected", 44002)
	s.OK("shop", "add", edit)
	if n := links(); n != 1 {
		t.Errorf("[] left %d test links, want 1 where rules.edit.keeps_empty is allowed", n)
	}
	s.Admin("PUT", "/settings", `{"behaviours":{}}`)
	s.OK("shop", "add", edit)
	if n := links(); n != 0 {
		t.Errorf("[] left %d test links, want none", n)
	}
}
