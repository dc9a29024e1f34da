package accounts

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestQRCodeDraft_Validation(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const forEver = -1
	for _, c := range []struct {
		name  string
		draft QRDraft
		scene string
		life  int
		code  *errcode.Code
	}{
		{"a temporary number", QRDraft{Action: QRNumber, ID: new(123)}, "123", 30, nil},
		{"the largest number", QRDraft{Action: QRNumber, ID: new(1<<32 - 1), Life: new(1)}, "4294967295", 1, nil},
		{"a number that needs 33 bits", QRDraft{Action: QRNumber, ID: new(1 << 32)}, "", 0, errcode.InvalidActionInfo},
		{"number 0", QRDraft{Action: QRNumber, ID: new(0)}, "", 0, errcode.InvalidActionInfo},
		{"a negative number", QRDraft{Action: QRNumber, ID: new(-1)}, "", 0, errcode.InvalidActionInfo},
		{"no number", QRDraft{Action: QRNumber, Text: new("x")}, "", 0, errcode.InvalidActionInfo},
		{"a permanent number", QRDraft{Action: QRNumberForEver, ID: new(100_000)}, "100000", forEver, nil},
		{"a permanent number above 100,000", QRDraft{Action: QRNumberForEver, ID: new(100_001)}, "", 0, errcode.InvalidActionInfo},
		{"the longest life", QRDraft{Action: QRText, Text: new("x"), Life: new(2_592_000)}, "x", 2_592_000, nil},
		{"a longer one", QRDraft{Action: QRText, Text: new("x"), Life: new(2_592_001)}, "", 0, errcode.InvalidArgs},
		{"no life", QRDraft{Action: QRText, Text: new("x"), Life: new(0)}, "", 0, errcode.InvalidArgs},
		{"a negative life", QRDraft{Action: QRText, Text: new("x"), Life: new(-5)}, "", 0, errcode.InvalidArgs},
		{"64 characters", QRDraft{Action: QRTextForEver, Text: new(strings.Repeat("码", 64))}, strings.Repeat("码", 64), forEver, nil},
		{"65 characters", QRDraft{Action: QRTextForEver, Text: new(strings.Repeat("码", 65))}, "", 0, errcode.InvalidActionInfo},
		{"an empty text", QRDraft{Action: QRTextForEver, Text: new("")}, "", 0, errcode.InvalidActionInfo},
		{"a control character", QRDraft{Action: QRTextForEver, Text: new("a\tb")}, "", 0, errcode.InvalidActionInfo},
		{"what XML cannot hold", QRDraft{Action: QRTextForEver, Text: new("\ufffe")}, "", 0, errcode.InvalidActionInfo},
		{"no text", QRDraft{Action: QRTextForEver, ID: new(1)}, "", 0, errcode.InvalidActionInfo},
		{"the life of a permanent code does not matter", QRDraft{Action: QRTextForEver, Text: new("x"), Life: new(-1)}, "x", forEver, nil},
		{"no action", QRDraft{ID: new(1)}, "", 0, errcode.InvalidActionName},
		{"an action in small letters", QRDraft{Action: "qr_scene", ID: new(1)}, "", 0, errcode.InvalidActionName},
		{"the action before the scene", QRDraft{Action: "QR_CARD"}, "", 0, errcode.InvalidActionName},
		{"the scene before the life", QRDraft{Action: QRNumber, ID: new(0), Life: new(0)}, "", 0, errcode.InvalidActionInfo},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := c.draft.code(now)
			if c.code != nil {
				assert.True(t, errors.Is(err, c.code), "got %v, want %v", err, c.code)
				return
			}
			life := forEver
			if !q.Permanent() {
				life = int(q.ExpiresAt.Sub(now) / time.Second)
			}
			assert.True(t, err == nil && q.Scene == c.scene && life == c.life, "got %+v, %v", q, err)
		})
	}
}

// Contract: rules 3.5, the sample; clients: some send a ticket encoded, some not.
// Behaviour(qrcode.ticket).
func TestQRCodeTicket_Encoding(t *testing.T) {
	q := QRCode{CreatedAt: time.Unix(1_700_000_000, 0), ExpiresAt: time.Unix(1_700_000_030, 0)}
	require.NoError(t, q.draw(bytes.NewReader(bytes.Repeat([]byte{0xfb}, 19))))
	assert.True(t, len(q.Ticket) == 96 && strings.HasPrefix(q.Ticket, "gQ") && strings.Trim(q.Ticket, alphanumeric+"-_") == "",
		"ticket %s", q.Ticket)
	raw, err := base64.RawURLEncoding.DecodeString(q.Ticket)
	assert.True(t, err == nil && bytes.Contains(raw, []byte(q.URL())), "the ticket does not hold the URL %s", q.URL())
	code, ok := CodeOf(q.URL())
	assert.True(t, ok && code == q.Code, "the URL %s is not seen as a code", q.URL())
	assert.True(t, q.draw(bytes.NewReader(nil)) != nil, "without chance there is a ticket")
}

// A scene may hold what ends a CDATA section.
func TestScanEvent_EscapesCDATA(t *testing.T) {
	body := scanEvent(Account{AppID: "svc"}, QRCode{Scene: "a]]><b>&", Ticket: "gQ"}, "o123", true, time.Unix(1, 0))
	want := "<EventKey>qrscene_a]]&gt;&lt;b&gt;&amp;</EventKey>"
	assert.Contains(t, body, want, "%s is not in", want)
}
