package qrjumptest_test

import (
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/qrjumptest"
)

func TestFault_ErrorAfterSideEffect(t *testing.T) {
	t.Parallel()
	s := qrjumptest.Start(t, qrjumptest.Seed(`
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release]}
settings: {verification: trust}
`))
	c, err := client.New(s.URL, client.Options{AppID: "shop", Secret: "secret-shop"})
	if err != nil {
		t.Fatal(err)
	}
	draft := client.RuleDraft{Prefix: "https://shop.example/t/", Path: "p", OpenVersion: 3}
	s.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumpadd", ErrCode: -1, Count: 1})
	if err := c.Wire.CreateRule(t.Context(), draft); err == nil {
		t.Fatal("the call did not fail")
	}
	if list, err := c.Wire.ListRules(t.Context(), client.ListRequest{}); err != nil || list.Total != 0 {
		t.Errorf("%d rules, %v: a fault did the call", list.Total, err)
	}
	s.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumpadd", ErrCode: -1, After: true, Count: 1})
	if err := c.Wire.CreateRule(t.Context(), draft); err == nil {
		t.Error("the call did not fail")
	}
	if list, err := c.Wire.ListRules(t.Context(), client.ListRequest{}); err != nil || list.Total != 1 {
		t.Errorf("%d rules, %v: the call was not done", list.Total, err)
	}
}
