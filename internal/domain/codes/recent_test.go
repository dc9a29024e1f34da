package codes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A cached ticket equals the stored one, the oldest tickets are evicted, and tickets with similar hashes are not confused.
func TestRecentTickets_EvictionAndCollision(t *testing.T) {
	var r ticketCache
	nth := func(i int) (Ticket, [sha256.Size]byte) {
		hash := sha256.Sum256(fmt.Append(nil, i))
		user := fmt.Sprintf("o%027d", i)
		at := time.UnixMilli(int64(1_800_000_000_000 + i)).UTC()
		return Ticket{Hash: hex.EncodeToString(hash[:]), Batch: int64(i % 7), Index: int64(i), OwnerID: user, AppID: fmt.Sprint("wx", i%3),
			AppUserID: "p" + user[1:],
			ScannedAt: at, ExpiresAt: at.Add(time.Hour)}, hash
	}
	const more = 1000
	for i := range maxCachedTickets + more {
		ticket, _ := nth(i)
		r.add(ticket)
		r.add(ticket) // twice is once
	}
	assert.True(t, len(r.ring) == maxCachedTickets && len(r.ringIndex) == maxCachedTickets && len(r.apps) == 3,
		"%d rows, %d hashes, %d apps", len(r.ring), len(r.ringIndex), len(r.apps))
	for i := range maxCachedTickets + more {
		want, hash := nth(i)
		got, ok := r.get(hash)
		require.Equal(t, ok, i >= more, "ticket %d", i)
		if ok && !cmp.Equal(got, want) {
			t.Fatal(cmp.Diff(want, got))
		}
	}
	last, hash := nth(maxCachedTickets + more - 1)
	alike := hash
	alike[31]++
	_, ok := r.get(alike)
	assert.True(t, !ok, "another hash that begins alike is found")
	other := last
	other.Hash, other.Index = hex.EncodeToString(alike[:]), 42
	r.add(other)
	got, ok := r.get(alike)
	assert.True(t, ok && got.Index == 42, "%+v %t", got, ok)
	got, ok = r.get(hash)
	assert.True(t, !ok, "the other's place has %+v", got)
	odd := last
	odd.Hash = "no hash"
	r.add(odd)
	odd.Hash, odd.OwnerID = hex.EncodeToString(alike[:]), "short"
	r.add(odd)
	r.clear()
	_, ok = r.get(alike)
	assert.True(t, !ok, "it is there after a clear")
}
