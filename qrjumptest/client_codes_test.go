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

const packageKey = "0123456789abcdef" // of the demo service account

func TestClientCodes_ApplyToTicket(t *testing.T) {
	c, ctx := connect(t, start(t), brand), t.Context()
	check := func(operation string, err error) {
		t.Helper()
		require.NoErrorf(t, err, "%s", operation)
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
	checkError := func(operation string, err error, code int, message string) {
		t.Helper()
		w, ok := errors.AsType[*client.WireError](err)
		assert.True(t, ok && w.Code == code && w.RID != "" && w.Message == message,
			"%s: got %#v, want %d %s", operation, err, code, message)
	}
	_, err = c.Wire.GetCode(ctx, client.CodeName{ID: id, Index: 10})
	checkError("query of an inactive code", err, 80304, "该码未激活")
	checkError("overlapping activation", c.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 9, To: 10}, binding), 80302, "激活号段有重叠")
	check("repeated activation", c.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 0, To: 9}, binding))
	check("settings", c.Settings.Update(ctx, map[string]any{"behaviours": map[string]string{"codes.query.bare": "allow"}}))
	b, err := c.Wire.GetCode(ctx, client.CodeName{ID: id, Index: 10})
	assert.True(t, err == nil && b.Code != "" && b.Binding == nil && b.Activated == nil,
		"query of an inactive code with codes.query.bare allowed = %+v, %v", b, err)
	d, err := c.Scans.Resolve(ctx, client.ScanRequest{Text: row[3], User: "u"})
	check("scan", err)
	_, ticket, _ := strings.Cut(d.Path, "code_ticket=")
	openid, err := c.Accounts.GetOpenID(ctx, brand.AppID, "u", "")
	check("openid", err)
	b, err = c.Wire.ExchangeTicket(ctx, openid, ticket)
	check("exchange of the ticket", err)
	assert.Equal(t, b.Code, row[1], "code of the ticket")

	change := client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: 7, To: 7}}, Codes: []string{row[1]}},
		Actor: "till", Note: "n"}
	if n, err := c.Codes.Update(ctx, id, client.Redeem, change); !hasCounts(n, 1, 1) || err != nil {
		t.Errorf("redeem = %+v, %v, want 1 of 1 codes", n, err)
	}
	_, err = c.Codes.Update(ctx, id, client.Redeem, change)
	p, ok := errors.AsType[*client.Problem](err)
	assert.True(t, ok && p.Status == http.StatusConflict, "second redeem of a code = %v, want 409", err)
	// Redeem of several codes skips those that are redeemed already.
	change = client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: 7, To: 9}}}}
	if n, err := c.Codes.Update(ctx, id, client.Redeem, change); !hasCounts(n, 3, 2) || err != nil {
		t.Errorf("redeem = %+v, %v, want 2 of 3 codes", n, err)
	}
	page := client.CodeBinding{WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/j/j"}
	n, err := c.Codes.Retarget(ctx, id, client.CodeRange{From: 0, To: 99}, page, "dora")
	assert.True(t, n == (client.CodesRetargeted{Activations: 1, Codes: 100, Changed: 10}) && err == nil, "retarget: %v, %v", n, err)
	if n, err := c.Codes.Deactivate(ctx, id, time.Now().Add(time.Hour),
		client.CodeChange{CodeSelection: client.CodeSelection{All: true}}); !hasCounts(n, 10_000, 10) || err != nil {
		t.Errorf("deactivate = %+v, %v, want 10 of 10000 codes", n, err)
	}
	found, err := c.Codes.Get(ctx, client.CodeName{Code: row[1]})
	check("lookup", err)
	var changes []string
	for _, e := range found.History {
		changes = append(changes, e.Action+" by "+e.Actor)
	}
	if got := strings.Join(changes, ", "); got != "deactivate by admin, activate by dora, redeem by admin, redeem by till, activate by "+
		brand.AppID+", activate by "+brand.AppID ||
		!found.Redeemed || !found.Active || found.Activation == nil || found.Activation.Binding.WxaPath != "pages/j/j" {
		t.Errorf("history = %s of %+v", got, found)
	}
	batches, err := c.Batches.List(ctx, client.BatchQuery{Account: brand.AppID, Limit: 1})
	check("batches", err)
	batch, err := c.Batches.Get(ctx, id)
	check("batch", err)
	assert.True(t, len(batches) == 1 && batches[0] == batch && batch.Redeemed == 3 && batch.Count == 10_000,
		"Batches.List = %+v, Batches.Get = %+v, want the same batch with 3 redeemed codes", batches, batch)
	list, err := c.Batches.List(ctx, client.BatchQuery{After: id})
	assert.True(t, err == nil && len(list) == 0, "batches after the last = %+v, %v, want none", list, err)
	_, err = c.Wire.GetApplication(ctx, client.ApplicationKey{ID: 7})
	checkError("query of an unknown application", err, 80300, "申请单不存在")
}

// newDownloadClient returns a client of a server whose downloads return the bodies in order, and then the last one.
func newDownloadClient(t *testing.T, bodies ...string) *client.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/stable_token" {
			fmt.Fprint(w, `{"access_token":"t","expires_in":7200}`)
			return
		}
		fmt.Fprint(w, bodies[0])
		if len(bodies) > 1 {
			bodies = bodies[1:]
		}
	}))
	t.Cleanup(s.Close)
	return connect(t, s.URL, brand)
}

func TestClientDownload_JSONVariants(t *testing.T) {
	long := strings.Repeat("QUJD", 100_000)
	for name, c := range map[string]struct{ body, want, wantErr string }{
		"as we send it":         {body: `{"errcode":0,"errmsg":"ok","buffer":"QUJD"}`, want: "QUJD"},
		"spaces, another order": {body: " {\n \"buffer\" : \"QUJD\" , \"errcode\" : 0 , \"more\": [1,{}]}\n", want: "QUJD"},
		"escapes":               {body: `{"more":{"a":[]},"buffer":"Q\/\u002B\u003d\nA"}`, want: "Q/+=\nA"},
		"long":                  {body: `{"buffer":"` + long + `"}`, want: long},
		"empty":                 {body: `{"buffer":""}`},
		"an error": {body: `{"errcode":80309,"errmsg":"expired, ... hint: [a][b] rid: 00000000-00000000-00000000"}`,
			wantErr: "errcode 80309 expired (rid "},
		"an error and a text":     {body: `{"errcode":80309,"errmsg":"expired","buffer":""}`, wantErr: "errcode 80309 expired"},
		"an error at the end":     {body: `{"buffer":"QUJD","errcode":80309,"errmsg":"expired"}`, wantErr: "errcode 80309 expired"},
		"no text":                 {body: `{"errcode":0,"errmsg":"ok"}`, wantErr: "is not from the platform API"},
		"a text that is none":     {body: `{"buffer":null}`, wantErr: "is not from the platform API"},
		"another escape":          {body: `{"buffer":"\u4f60"}`, wantErr: "is not from the platform API"},
		"no JSON":                 {body: `<html>`, wantErr: "is not from the platform API"},
		"cut before the text":     {body: `{"errcode":0,"errm`, wantErr: "incomplete package: unexpected EOF"},
		"cut in the text":         {body: `{"buffer":"QUJD`, wantErr: "incomplete package: unexpected EOF"},
		"cut behind it":           {body: `{"buffer":"QUJD"`, wantErr: "incomplete package: unexpected EOF"},
		"endless before the text": {body: `{"more":"` + long + `","buffer":""}`, wantErr: "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newDownloadClient(t, c.body).Wire.DownloadCodes(t.Context(), 1, client.CodeRange{})
			var got []byte
			if err == nil {
				defer p.Close()
				got, err = io.ReadAll(p)
			}
			assert.True(t, c.wantErr != "" || (err == nil && string(got) == c.want), "got %.100q, %v, want %.100q", got, err, c.want)
			assert.True(t, c.wantErr == "" || err != nil && strings.Contains(err.Error(), c.wantErr),
				"got %.100q, %v, want the error %s", got, err, c.wantErr)
		})
	}
}

func TestClientDownload_RenewsExpiredToken(t *testing.T) {
	c := newDownloadClient(t, `{"errcode":42001,"errmsg":"expired"}`, `{"buffer":"QUJD"}`)
	p := require.Value(c.Wire.DownloadCodes(t.Context(), 1, client.CodeRange{}))(t)
	defer p.Close()
	got, err := io.ReadAll(iotest.OneByteReader(p))
	assert.True(t, err == nil && string(got) == "QUJD", "download with an expired token = %q, %v, want QUJD", got, err)
}

// stalled returns a response that stalls after the beginning of a package.
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
		p := require.Value(c.Wire.DownloadCodes(t.Context(), 1, client.CodeRange{}))(t)
		defer p.Close()
		time.Sleep(time.Hour) // what the reader takes does not count
		began := time.Now()
		got, err := io.ReadAll(p)
		assert.True(t, string(got) == "QUJD" && errors.Is(err, context.DeadlineExceeded) && time.Since(began) == 15*time.Second,
			"got %q, %v after %v, want a timeout after 15 s", got, err, time.Since(began))
	})
}

func TestClientRows_InvalidPackage(t *testing.T) {
	c := connect(t, start(t), brand)
	id := require.Value(c.Wire.ApplyCodes(t.Context(), 10_000, "x"))(t)
	p := require.Value(c.Wire.DownloadCodes(t.Context(), id, client.CodeRange{From: 0, To: 999}))(t)
	defer p.Close()
	data := require.Value(io.ReadAll(p))(t)
	text := string(data)
	for name, k := range map[string]struct {
		pkg, key, wantErr string
	}{
		"complete":                {pkg: text},
		"with line ends":          {pkg: text[:76] + "\r\n" + text[76:] + "\n"},
		"wrong key":               {pkg: text, key: "fedcba9876543210", wantErr: client.ErrPackageKey.Error()},
		"key of 15 characters":    {pkg: text, key: "fedcba987654321", wantErr: "16 characters, not 15"},
		"empty":                   {wantErr: "truncated"},
		"cut at a block boundary": {pkg: text[:64*100], wantErr: "truncated"}, // the last block has no padding
		"cut within a block":      {pkg: text[:64*100+4], wantErr: "truncated"},
		"invalid characters":      {pkg: text[:6400] + "<>" + text[6402:], wantErr: "not Base64"},
	} {
		in, err := client.Rows(iotest.HalfReader(strings.NewReader(k.pkg)), cmp.Or(k.key, packageKey))
		var got []byte
		if err == nil {
			got, err = io.ReadAll(in)
		}
		assert.True(t, k.wantErr != "" || err == nil && bytes.Count(got, []byte("\n")) == 1000 && bytes.HasSuffix(got, []byte("\n")),
			"%s: %d bytes, %v, want 1000 lines", name, len(got), err)
		assert.True(t, k.wantErr == "" || err != nil && strings.Contains(err.Error(), k.wantErr), "%s: %v, want %s", name, err, k.wantErr)
	}
}

func hasCounts(n client.CodesChanged, codes, changed int64) bool {
	return n.Codes == codes && n.Changed == changed
}
