package qrjumptest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var brand = client.Options{AppID: "wxc0ffee0000000002", Secret: "c0ffee00000000000000000000000002", RateRetries: 5}

const packageKey = "0123456789abcdef" // of the demo's service account

func TestClientCodes_ApplyToTicket(t *testing.T) {
	c, ctx := connect(t, start(t), brand), t.Context()
	check := func(what string, err error) {
		t.Helper()
		require.NoErrorf(t, err, "%s", what)
	}
	id, err := c.Wire.ApplyCodes(ctx, 10_000, "order-1")
	check("apply", err)
	a, err := c.Wire.GetApplication(ctx, client.ApplicationKey{ISV: "order-1"})
	check("query", err)
	assert.True(t, a.ID == id && a.Status == client.ApplicationFinished && len(a.Segments) == 1 &&
		a.Segments[0] == (client.CodeRange{From: 0, To: 9999}) && !a.CreatedAt.IsZero(), "got the application %+v", a)
	pkg, err := c.Wire.DownloadCodes(ctx, id, client.CodeRange{From: 7, To: 8})
	check("download", err)
	defer pkg.Close()
	opened, err := client.Rows(pkg, packageKey)
	check("rows", err)
	text, err := io.ReadAll(opened)
	check("read", err)
	lines := strings.Split(string(text), "\n")
	require.True(t, len(lines) == 3 && strings.Contains(lines[1], " 8 P.URL.CN/"), "got the rows %q", lines)
	row := strings.Fields(lines[0]) // matrix, code, index, text

	binding := client.CodeBinding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "6901234567892",
		WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/i/i"}
	check("activate", c.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 0, To: 9}, binding))
	for _, name := range []client.CodeName{{URL: row[3]}, {Code: row[1]}, {ID: id, Index: 7}} {
		b, err := c.Wire.GetCode(ctx, name)
		check("query code", err)
		assert.True(t, b.Code == row[1] && b.Binding != nil && *b.Binding == binding && *b.Activated == (client.CodeRange{From: 0, To: 9}),
			"%+v: got %+v", name, b)
	}
	refused := func(what string, err error, code int, message string) {
		t.Helper()
		w, ok := errors.AsType[*client.WireError](err)
		assert.True(t, ok && w.Code == code && w.RID != "" && w.Message == message, "%s: got %#v", what, err)
	}
	_, err = c.Wire.GetCode(ctx, client.CodeName{ID: id, Index: 10})
	refused("a code that is not active", err, 80304, "该码未激活")
	refused("an overlap", c.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 9, To: 10}, binding), 80302, "激活号段有重叠")
	check("the very same range", c.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 0, To: 9}, binding))
	check("settings", c.Settings.Update(ctx, map[string]any{"behaviours": map[string]string{"codes.query.bare": "allow"}}))
	b, err := c.Wire.GetCode(ctx, client.CodeName{ID: id, Index: 10})
	assert.True(t, err == nil && b.Code != "" && b.Binding == nil && b.Activated == nil, "a code that is not active: %+v, %v", b, err)
	d, err := c.Scans.Resolve(ctx, client.ScanRequest{Text: row[3], User: "u"})
	check("scan", err)
	_, ticket, _ := strings.Cut(d.Path, "code_ticket=")
	openid, err := c.Accounts.GetOpenID(ctx, brand.AppID, "u", "")
	check("openid", err)
	b, err = c.Wire.ExchangeTicket(ctx, openid, ticket)
	check("trade", err)
	assert.True(t, b.Code == row[1], "the ticket is worth %+v", b)

	change := client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: 7, To: 7}}, Codes: []string{row[1]}},
		Actor: "till", Note: "n"}
	if n, err := c.Codes.Update(ctx, id, client.Redeem, change); !changed(n, 1, 1) || err != nil {
		t.Errorf("redeem: %v, %v", n, err)
	}
	_, err = c.Codes.Update(ctx, id, client.Redeem, change)
	p, ok := errors.AsType[*client.Problem](err)
	assert.True(t, ok && p.Status == http.StatusConflict, "redeemed twice: %v", err)
	// Of several codes those are redeemed that were not. Issue 11, 5.
	change = client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: 7, To: 9}}}}
	if n, err := c.Codes.Update(ctx, id, client.Redeem, change); !changed(n, 3, 2) || err != nil {
		t.Errorf("redeem: %v, %v", n, err)
	}
	page := client.CodeBinding{WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/j/j"}
	n, err := c.Codes.Retarget(ctx, id, client.CodeRange{From: 0, To: 99}, page, "dora")
	assert.True(t, n == (client.CodesRetargeted{Activations: 1, Codes: 100, Changed: 10}) && err == nil, "retarget: %v, %v", n, err)
	if n, err := c.Codes.Deactivate(ctx, id, time.Now().Add(time.Hour),
		client.CodeChange{CodeSelection: client.CodeSelection{All: true}}); !changed(n, 10_000, 10) || err != nil {
		t.Errorf("deactivate: %v, %v", n, err)
	}
	found, err := c.Codes.Get(ctx, client.CodeName{Code: row[1]})
	check("lookup", err)
	var did []string
	for _, e := range found.History {
		did = append(did, e.Action+" by "+e.Actor)
	}
	if got := strings.Join(did, ", "); got != "deactivate by admin, activate by dora, redeem by admin, redeem by till, activate by "+
		brand.AppID+", activate by "+brand.AppID ||
		!found.Redeemed || !found.Active || found.Activation == nil || found.Activation.Binding.WxaPath != "pages/j/j" {
		t.Errorf("got %s of %+v", got, found)
	}
	batches, err := c.Batches.List(ctx, client.BatchQuery{Account: brand.AppID, Limit: 1})
	check("batches", err)
	one, err := c.Batches.Get(ctx, id)
	check("batch", err)
	assert.True(t, len(batches) == 1 && batches[0] == one && one.Redeemed == 3 && one.Count == 10_000, "got %+v and %+v", batches, one)
	list, err := c.Batches.List(ctx, client.BatchQuery{After: id})
	assert.True(t, err == nil && len(list) == 0, "after the last: %+v, %v", list, err)
	_, err = c.Wire.GetApplication(ctx, client.ApplicationKey{ID: 7})
	refused("an application that nobody made", err, 80300, "申请单不存在")
}

// packages answers a download with texts, one a call.
func packages(t *testing.T, answers ...string) *client.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/stable_token" {
			fmt.Fprint(w, `{"access_token":"t","expires_in":7200}`)
			return
		}
		fmt.Fprint(w, answers[0])
		if len(answers) > 1 {
			answers = answers[1:]
		}
	}))
	t.Cleanup(s.Close)
	return connect(t, s.URL, brand)
}

func TestClientDownload_JSONVariants(t *testing.T) {
	long := strings.Repeat("QUJD", 100_000)
	for name, c := range map[string]struct{ answer, want, fault string }{
		"as we send it":         {answer: `{"errcode":0,"errmsg":"ok","buffer":"QUJD"}`, want: "QUJD"},
		"spaces, another order": {answer: " {\n \"buffer\" : \"QUJD\" , \"errcode\" : 0 , \"more\": [1,{}]}\n", want: "QUJD"},
		"escapes":               {answer: `{"more":{"a":[]},"buffer":"Q\/\u002B\u003d\nA"}`, want: "Q/+=\nA"},
		"long":                  {answer: `{"buffer":"` + long + `"}`, want: long},
		"empty":                 {answer: `{"buffer":""}`},
		"an error": {answer: `{"errcode":80309,"errmsg":"expired, ... hint: [a][b] rid: 00000000-00000000-00000000"}`,
			fault: "errcode 80309 expired (rid "},
		"an error and a text":     {answer: `{"errcode":80309,"errmsg":"expired","buffer":""}`, fault: "errcode 80309 expired"},
		"an error at the end":     {answer: `{"buffer":"QUJD","errcode":80309,"errmsg":"expired"}`, fault: "errcode 80309 expired"},
		"no text":                 {answer: `{"errcode":0,"errmsg":"ok"}`, fault: "is not from the platform API"},
		"a text that is none":     {answer: `{"buffer":null}`, fault: "is not from the platform API"},
		"another escape":          {answer: `{"buffer":"\u4f60"}`, fault: "is not from the platform API"},
		"no JSON":                 {answer: `<html>`, fault: "is not from the platform API"},
		"cut before the text":     {answer: `{"errcode":0,"errm`, fault: "incomplete package: unexpected EOF"},
		"cut in the text":         {answer: `{"buffer":"QUJD`, fault: "incomplete package: unexpected EOF"},
		"cut behind it":           {answer: `{"buffer":"QUJD"`, fault: "incomplete package: unexpected EOF"},
		"endless before the text": {answer: `{"more":"` + long + `","buffer":""}`, fault: "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := packages(t, c.answer).Wire.DownloadCodes(t.Context(), 1, client.CodeRange{})
			var got []byte
			if err == nil {
				defer p.Close()
				got, err = io.ReadAll(p)
			}
			assert.True(t, c.fault != "" || (err == nil && string(got) == c.want), "got %.100q, %v", got, err)
			assert.True(t, c.fault == "" || err != nil && strings.Contains(err.Error(), c.fault),
				"got %.100q, %v, want %s", got, err, c.fault)
		})
	}
}

func TestClientDownload_RenewsExpiredToken(t *testing.T) {
	p, err := packages(t, `{"errcode":42001,"errmsg":"expired"}`, `{"buffer":"QUJD"}`).Wire.DownloadCodes(t.Context(), 1,
		client.CodeRange{})
	require.NoError(t, err)
	defer p.Close()
	got, err := io.ReadAll(iotest.OneByteReader(p))
	assert.True(t, err == nil && string(got) == "QUJD", "got %q, %v", got, err)
}

// stalled answers with the beginning of a package, and then nothing comes.
type stalled struct{}

func (stalled) RoundTrip(r *http.Request) (*http.Response, error) {
	body, sink := io.Pipe()
	context.AfterFunc(r.Context(), func() { sink.CloseWithError(r.Context().Err()) })
	go io.WriteString(sink, `{"errcode":0,"buffer":"QUJD`)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, ContentLength: -1, Request: r}, nil
}

func TestClientDownload_StalledTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, "http://stalled.example", client.Options{AccessToken: "t", HTTP: &http.Client{Transport: stalled{}}})
		p, err := c.Wire.DownloadCodes(t.Context(), 1, client.CodeRange{})
		require.NoError(t, err)
		defer p.Close()
		time.Sleep(time.Hour) // what the reader takes does not count
		began := time.Now()
		got, err := io.ReadAll(p)
		assert.True(t, string(got) == "QUJD" && errors.Is(err, context.DeadlineExceeded) && time.Since(began) == 15*time.Second,
			"got %q, %v after %v", got, err, time.Since(began))
	})
}

func TestClientRows_InvalidPackage(t *testing.T) {
	c := connect(t, start(t), brand)
	id, err := c.Wire.ApplyCodes(t.Context(), 10_000, "x")
	require.NoError(t, err)
	p, err := c.Wire.DownloadCodes(t.Context(), id, client.CodeRange{From: 0, To: 999})
	require.NoError(t, err)
	defer p.Close()
	whole, err := io.ReadAll(p)
	require.NoError(t, err)
	for name, k := range map[string]struct {
		pkg, key, fault string
	}{
		"whole":             {pkg: string(whole)},
		"with line ends":    {pkg: string(whole[:76]) + "\r\n" + string(whole[76:]) + "\n"},
		"another key":       {pkg: string(whole), key: "fedcba9876543210", fault: client.ErrPackageKey.Error()},
		"a key of 15":       {pkg: string(whole), key: "fedcba987654321", fault: "16 characters, not 15"},
		"nothing":           {fault: "truncated"},
		"cut at a block":    {pkg: string(whole[:64*100]), fault: client.ErrPackageKey.Error()}, // the last block has no padding
		"cut within one":    {pkg: string(whole[:64*100+4]), fault: "truncated"},
		"something foreign": {pkg: string(whole[:6400]) + "<>" + string(whole[6402:]), fault: "not Base64"},
	} {
		in, err := client.Rows(iotest.HalfReader(strings.NewReader(k.pkg)), cmp.Or(k.key, packageKey))
		var got []byte
		if err == nil {
			got, err = io.ReadAll(in)
		}
		assert.True(t, k.fault != "" || err == nil && bytes.Count(got, []byte("\n")) == 1000 && bytes.HasSuffix(got, []byte("\n")),
			"%s: %d bytes, %v", name, len(got), err)
		assert.True(t, k.fault == "" || err != nil && strings.Contains(err.Error(), k.fault), "%s: %v, want %s", name, err, k.fault)
	}
}

func changed(n client.CodesChanged, codes, changed int64) bool {
	return n.Codes == codes && n.Changed == changed
}
