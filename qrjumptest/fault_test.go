package qrjumptest_test

import (
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

func TestFault_ErrorAfterSideEffect(t *testing.T) {
	t.Parallel()
	s := qrjumptest.Start(t, qrjumptest.Seed(`
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release]}
settings: {verification: trust}
`))
	c := require.Value(client.New(s.URL, client.Options{AppID: "shop", Secret: "secret-shop"}))(t)
	draft := client.RuleDraft{Prefix: "https://shop.example/t/", Path: "p", OpenVersion: 3}
	s.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumpadd", ErrCode: -1, Remaining: new(1)})
	require.True(t, c.Wire.CreateRule(t.Context(), draft) != nil, "CreateRule with a fault succeeds, want an error")
	list, err := c.Wire.ListRules(t.Context(), client.ListRequest{})
	assert.True(t, err == nil && list.Total == 0, "%d rules, %v, want none: the fault replaces the call", list.Total, err)
	s.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumpadd", ErrCode: -1, After: true, Remaining: new(1)})
	assert.True(t, c.Wire.CreateRule(t.Context(), draft) != nil, "CreateRule with a fault after the call succeeds, want an error")
	list, err = c.Wire.ListRules(t.Context(), client.ListRequest{})
	assert.True(t, err == nil && list.Total == 1, "%d rules, %v, want one: the call precedes the fault", list.Total, err)
}
