package accounts_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// certified is the account of fixture.addServiceAccount without its address.
var certified = accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, Certified: true}

func TestQRCodeDraft_Validation(t *testing.T) {
	w := newFixture(t)
	w.addServiceAccount("")
	const numberForEver, textForEver, forEver = accounts.QRNumberForEver, accounts.QRTextForEver, -1
	for _, c := range []struct {
		name  string
		draft accounts.QRDraft
		scene string
		life  int
		code  *errcode.Code
	}{
		{"a temporary number", accounts.QRDraft{Action: accounts.QRNumber, ID: new(123)}, "123", 30, nil},
		{"the largest number", accounts.QRDraft{Action: accounts.QRNumber, ID: new(1<<32 - 1), Life: new(1)}, "4294967295", 1, nil},
		{"a number that needs 33 bits", accounts.QRDraft{Action: accounts.QRNumber, ID: new(1 << 32)}, "", 0, errcode.InvalidActionInfo},
		{"number 0", accounts.QRDraft{Action: accounts.QRNumber, ID: new(0)}, "", 0, errcode.InvalidActionInfo},
		{"a negative number", accounts.QRDraft{Action: accounts.QRNumber, ID: new(-1)}, "", 0, errcode.InvalidActionInfo},
		{"no number", accounts.QRDraft{Action: accounts.QRNumber, Text: new("x")}, "", 0, errcode.InvalidActionInfo},
		{"a permanent number", accounts.QRDraft{Action: numberForEver, ID: new(100_000)}, "100000", forEver, nil},
		{"a permanent number above 100,000", accounts.QRDraft{Action: numberForEver, ID: new(100_001)}, "", 0, errcode.InvalidActionInfo},
		{"the longest life", accounts.QRDraft{Action: accounts.QRText, Text: new("x"), Life: new(2_592_000)}, "x", 2_592_000, nil},
		{"a longer one", accounts.QRDraft{Action: accounts.QRText, Text: new("x"), Life: new(2_592_001)}, "", 0, errcode.InvalidArgs},
		{"no life", accounts.QRDraft{Action: accounts.QRText, Text: new("x"), Life: new(0)}, "", 0, errcode.InvalidArgs},
		{"a negative life", accounts.QRDraft{Action: accounts.QRText, Text: new("x"), Life: new(-5)}, "", 0, errcode.InvalidArgs},
		{"64 characters", accounts.QRDraft{Action: textForEver, Text: new(strings.Repeat("码", 64))}, strings.Repeat("码", 64), forEver, nil},
		{"65 characters", accounts.QRDraft{Action: textForEver, Text: new(strings.Repeat("码", 65))}, "", 0, errcode.InvalidActionInfo},
		{"an empty text", accounts.QRDraft{Action: textForEver, Text: new("")}, "", 0, errcode.InvalidActionInfo},
		{"a control character", accounts.QRDraft{Action: textForEver, Text: new("a\tb")}, "", 0, errcode.InvalidActionInfo},
		{"a character that XML does not allow", accounts.QRDraft{Action: textForEver, Text: new("\ufffe")}, "", 0,
			errcode.InvalidActionInfo},
		{"no text", accounts.QRDraft{Action: textForEver, ID: new(1)}, "", 0, errcode.InvalidActionInfo},
		{"the life of a permanent code", accounts.QRDraft{Action: textForEver, Text: new("x"), Life: new(-1)}, "x", forEver, nil},
		{"no action", accounts.QRDraft{ID: new(1)}, "", 0, errcode.InvalidActionName},
		{"an action in small letters", accounts.QRDraft{Action: "qr_scene", ID: new(1)}, "", 0, errcode.InvalidActionName},
		{"the action before the scene", accounts.QRDraft{Action: "QR_CARD"}, "", 0, errcode.InvalidActionName},
		{"scene before life", accounts.QRDraft{Action: accounts.QRNumber, ID: new(0), Life: new(0)}, "", 0, errcode.InvalidActionInfo},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := w.CreateQRCode(t.Context(), certified, c.draft)
			if c.code != nil {
				assert.True(t, errors.Is(err, c.code), "CreateQRCode: %v, want %v", err, c.code)
				return
			}
			life := forEver
			if !q.Permanent() {
				life = int(q.ExpiresAt.Sub(begin) / time.Second)
			}
			assert.True(t, err == nil && q.Scene == c.scene && life == c.life, "CreateQRCode = %+v, %v, want scene %q, life %d", q, err,
				c.scene, c.life)
		})
	}
}

// Contract: rules 3.5, the sample; clients: some send a ticket encoded, some not.
// Behaviour(qrcode.ticket).
func TestQRCodeTicket_Encoding(t *testing.T) {
	w := newFixture(t)
	w.addServiceAccount("")
	w.Random = bytes.NewReader(bytes.Repeat([]byte{0xfb}, 19))
	draft := accounts.QRDraft{Action: accounts.QRNumber, ID: new(1)}
	q := require.Value(w.CreateQRCode(t.Context(), certified, draft))(t)
	assert.True(t, regexp.MustCompile(`^gQ[0-9A-Za-z_-]{94}$`).MatchString(q.Ticket), "ticket = %s, want gQ and 94 characters", q.Ticket)
	raw, err := base64.RawURLEncoding.DecodeString(q.Ticket)
	assert.True(t, err == nil && bytes.Contains(raw, []byte(q.URL())), "the decoded ticket does not contain the URL %s", q.URL())
	code, ok := accounts.CodeOf(q.URL())
	assert.True(t, ok && code == q.Code, "CodeOf(%s) = %v, %t, want %v", q.URL(), code, ok, q.Code)
	assert.True(t, assert.ErrorOf(w.CreateQRCode(t.Context(), certified, draft)) != nil, "CreateQRCode without random bytes succeeded")
}

// TestScanEvent_EscapesCDATA verifies that a scene with the end of a CDATA section is escaped.
func TestScanEvent_EscapesCDATA(t *testing.T) {
	w := newFixture(t)
	w.addServiceAccount("http://h.example/")
	draft := accounts.QRDraft{Action: accounts.QRText, Text: new("a]]><b>&")}
	w.scanCode(require.Value(w.CreateQRCode(t.Context(), certified, draft))(t), "o123")
	want := "<EventKey>qrscene_a]]&gt;&lt;b&gt;&amp;</EventKey>"
	assert.Contains(t, w.events()[0].Body, want, "body of the event")
}
