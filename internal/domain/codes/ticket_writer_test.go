package codes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// held is a store whose transactions wait for a test, and may fail.
type held struct {
	codes.Store
	mu     sync.Mutex
	begun  chan struct{}
	let    chan error
	writes int
}

func (h *held) UpdateCodes(ctx context.Context, f func(codes.Tx) error) error {
	h.begun <- struct{}{}
	err := <-h.let
	h.mu.Lock()
	h.writes++
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return h.Store.UpdateCodes(ctx, f)
}

func (p *plant) hold() *held {
	h := &held{Store: p.Store, begun: make(chan struct{}), let: make(chan error)}
	p.Store = h
	return h
}

func (p *plant) found(b codes.Batch, index int64) codes.Found {
	p.t.Helper()
	f, err := p.Lookup(p.t.Context(), codes.CodeName{ID: b.ID, Index: index, HasIndex: true})
	require.NoError(p.t, err)
	return f
}

func TestDesk_FirstScanKept(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	_, ok, err := p.writer.FirstScan(t.Context(), b.ID, 3)
	require.True(t, !ok && err == nil, "%v %v", ok, err)
	began := p.now()
	for n, scan := range []codes.CodeScan{{Scan: "first", UserHash: "aa", User: "u", Namespace: "default"},
		{Scan: "second", UserHash: "bb"},
		{Scan: "third"}} {
		scan.Found, scan.At = p.found(b, 3), p.now()
		r, err := p.writer.Enqueue(t.Context(), scan)
		require.NoError(t, err)
		ticket, err := r.Wait(t.Context())
		require.True(t, err == nil && (ticket == "") == (n > 0), "%v %v", ticket, err)
		p.advance(time.Minute)
	}
	want := codes.FirstScan{Batch: b.ID, Index: 3, At: began, Scan: "first", User: "aa"}
	got, ok, err := p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.True(t, ok && err == nil && got == want, "got %+v %v %v, want %+v", got, ok, err, want)
	_, ok, err = p.writer.FirstScan(t.Context(), b.ID, 4)
	assert.True(t, !ok && err == nil, "its neighbour was scanned %v", err)
	nobody := func(string) string { return "no openid" }
	require.NoError(t, p.writer.Erase(t.Context(), "bb", nobody))
	got, _, _ = p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.Equal(t, got, want, "after another user was erased")
	require.NoError(t, p.writer.Erase(t.Context(), "aa", nobody))
	want.User = ""
	got, _, _ = p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.Equal(t, got, want, "after the user was erased")
}

// Scans that come while a transaction runs share the next one.
func TestDesk_BatchesTransactions(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 999)
	h := p.hold()
	visit := func(n int) *codes.Pending {
		r, err := p.writer.Enqueue(t.Context(), codes.CodeScan{Found: p.found(b, int64(n%100)), Scan: fmt.Sprint(n), At: p.now(),
			User: fmt.Sprint(n), Namespace: "default"})
		require.NoError(t, err)
		return r
	}
	all := []*codes.Pending{visit(0)}
	<-h.begun
	for n := 1; n <= 300; n++ {
		all = append(all, visit(n))
	}
	go func() {
		for range 3 {
			h.let <- nil
			select {
			case <-h.begun:
			case <-t.Context().Done():
			}
		}
	}()
	tickets := map[string]bool{}
	for _, r := range all {
		ticket, err := r.Wait(t.Context())
		require.NoError(t, err)
		tickets[ticket] = true
	}
	if h.writes != 3 || len(tickets) != 301 { // 1, 256, 44
		t.Errorf("%d transactions, %d tickets", h.writes, len(tickets))
	}
	for index := range int64(100) {
		first, ok, err := p.writer.FirstScan(t.Context(), b.ID, index)
		assert.True(t, ok && err == nil && first.Scan == fmt.Sprint(index), "code %d was first scanned by %+v, %v", index, first, err)
	}
}

// A transaction that fails hands out no ticket; the next may succeed.
func TestDesk_FailedTransactionNoTicket(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	h := p.hold()
	fault := errors.New("no database")
	for _, lost := range []error{fault, nil} {
		r, err := p.writer.Enqueue(t.Context(), codes.CodeScan{Found: p.found(b, 0), Scan: "s", At: p.now(), User: "u",
			Namespace: "default"})
		require.NoError(t, err)
		<-h.begun
		h.let <- lost
		ticket, err := r.Wait(t.Context())
		assert.True(t, (lost == nil || ticket == "" && errors.Is(err, codes.ErrScanNotWritten) && errors.Is(err, fault)) && (lost != nil ||
			ticket != "" && err == nil), "%v: %q %v", lost, ticket, err)
	}
}

// A scan that finds the queue full waits for a place as long as its caller does.
func TestDesk_QueueFull(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	h := p.hold()
	v := codes.CodeScan{Found: p.found(b, 0), Scan: "s", At: p.now()}
	for range 4096 {
		require.NoError(t, assert.ErrorOf(p.writer.Enqueue(t.Context(), v)))
	}
	<-h.begun
	gone, leave := context.WithCancel(t.Context())
	leave()
	assert.ErrorIs(t, assert.ErrorOf(p.writer.Enqueue(gone, v)), codes.ErrQueueFull, "no place, and the caller left")
	waiting := make(chan error, 1)
	go func() {
		r, err := p.writer.Enqueue(t.Context(), v)
		if err == nil {
			_, err = r.Wait(t.Context())
		}
		waiting <- err
	}()
	go func() {
		for {
			select {
			case h.let <- nil:
			case <-h.begun:
			case <-t.Context().Done():
				return
			}
		}
	}()
	assert.NoError(t, (<-waiting))
}

// A ticket is traded by a node that neither made nor read it, and by one that did it is not looked for again.
func TestDesk_TicketCache(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	ticket, err := p.visit(p.found(b, 0), "u")
	require.NoError(t, err)
	openid := p.OpenIDs.OpenID("default", "svc", "u")
	store := p.Store
	p.Store = nil // any look-up would be a fault
	assert.NoError(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)))
	p.Store = store
	p.ClearTicketCache()
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)), "from the store")
	p.Store = nil
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)), "from memory again")
}
