package codes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestRecentTickets_EvictionAndCollision verifies that a cached ticket equals the stored one, that the oldest tickets are evicted, and that
// tickets with similar hashes are not confused.
func TestRecentTickets_EvictionAndCollision(t *testing.T) {
	var r ticketCache
	newTicket := func(i int) (Ticket, [sha256.Size]byte) {
		hash := sha256.Sum256(fmt.Append(nil, i))
		user := fmt.Sprintf("o%027d", i)
		at := time.UnixMilli(int64(1_800_000_000_000 + i)).UTC()
		return Ticket{Hash: hex.EncodeToString(hash[:]), Batch: int64(i % 7), Index: int64(i), OwnerID: user, AppID: fmt.Sprint("wx", i%3),
			AppUserID: "p" + user[1:],
			ScannedAt: at, ExpiresAt: at.Add(time.Hour)}, hash
	}
	const evicted = 1000
	for i := range maxCachedTickets + evicted {
		ticket, _ := newTicket(i)
		r.add(ticket)
		r.add(ticket) // must not add a second row
	}
	assert.True(t, len(r.ring) == maxCachedTickets && len(r.ringIndex) == maxCachedTickets && len(r.apps) == 3,
		"%d rows, %d hashes, %d apps", len(r.ring), len(r.ringIndex), len(r.apps))
	for i := range maxCachedTickets + evicted {
		want, hash := newTicket(i)
		got, ok := r.get(hash)
		require.Equal(t, ok, i >= evicted, "ticket %d is cached", i)
		if ok && !cmp.Equal(got, want) {
			t.Fatal(cmp.Diff(want, got))
		}
	}
	last, hash := newTicket(maxCachedTickets + evicted - 1)
	alike := hash
	alike[31]++
	_, ok := r.get(alike)
	assert.True(t, !ok, "found a hash that differs in its last byte, want none")
	other := last
	other.Hash, other.Index = hex.EncodeToString(alike[:]), 42
	r.add(other)
	got, ok := r.get(alike)
	assert.True(t, ok && got.Index == 42, "get = %+v, %t, want index 42", got, ok)
	got, ok = r.get(hash)
	assert.True(t, !ok, "get of the replaced ticket = %+v, want none", got)
	invalid := last
	invalid.Hash = "no hash"
	r.add(invalid)
	invalid.Hash, invalid.OwnerID = hex.EncodeToString(alike[:]), "short"
	r.add(invalid)
	r.clear()
	_, ok = r.get(alike)
	assert.True(t, !ok, "found a ticket after clear, want none")
}

// Contract: marketcode 1.1, 3.6.
func TestTicketTrade_OpenIDMatch(t *testing.T) {
	t.Parallel()
	ticket := Ticket{OwnerID: "o-under-the-service-account", AppUserID: "o-under-the-mini-program",
		ExpiresAt: testTime.Add(30 * time.Minute)}
	for _, c := range []struct {
		name, openid string
		after        time.Duration
		want         bool
	}{
		{"the user under the service account", ticket.OwnerID, 0, true},
		{"the user under the Mini Program", ticket.AppUserID, 0, true},
		{"the last moment", ticket.OwnerID, 30*time.Minute - 1, true},
		{"the end", ticket.OwnerID, 30 * time.Minute, false},
		{"later", ticket.OwnerID, time.Hour, false},
		{"another user", "o-another-user", 0, false},
		{"no user", "", 0, false},
	} {
		code, detail := errcode.FromError(ticket.CheckUser(c.openid, testTime.Add(c.after)))
		assert.True(t, (!c.want || code == errcode.OK) && (c.want || code == errcode.InvalidArgs && detail == "无效的code_ticket或与openid不对应"),
			"%s: %v %s", c.name, code, detail)
	}
	const openid = "oiV2luCau8Cx0TMOy9lvZSLqRcKc"
	for _, c := range []struct{ openid, ticket, want string }{
		{openid, "6cb4bc95e1f1abc97034cbe8fd484989", ""}, {openid, strings.Repeat("a", 256), ""},
		{openid, strings.Repeat("a", 257), badTicket}, {openid, "", badTicket},
		{"", "a", badOpenID}, {openid[1:], "a", badOpenID}, {openid + "x", "a", badOpenID}, {openid[1:] + "!", "a", badOpenID},
		{openid[1:] + "\n", "a", badOpenID},
		{"", "", badOpenID},
	} {
		_, detail := errcode.FromError(checkExchange(c.openid, c.ticket))
		assert.Equal(t, detail, c.want, "checkExchange(%q, %.40q)", c.openid, c.ticket)
	}
}

func TestNewTicketText_Lowercase128Bit(t *testing.T) {
	t.Parallel()
	text, err := newTicketText(strings.NewReader("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\xfc\xfd\xfe\xff"))
	assert.True(t, err == nil && text == "000102030405060708090a0bfcfdfeff" && regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(text),
		"%q, %v", text, err)
	for _, broken := range []io.Reader{strings.NewReader("short"), iotest.ErrReader(io.ErrClosedPipe)} {
		text, err := newTicketText(broken)
		assert.True(t, err != nil, "newTicketText without random bytes = %q, want an error", text)
	}
}
