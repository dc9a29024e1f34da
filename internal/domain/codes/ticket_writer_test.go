package codes_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// blockingStore signals each transaction on started and runs it when the test sends nil on result; another value fails it.
type blockingStore struct {
	codes.Store
	started chan struct{}
	result  chan error
	writes  atomic.Int64
}

func (s *blockingStore) UpdateCodes(ctx context.Context, f func(codes.Tx) error) error {
	s.started <- struct{}{}
	err := <-s.result
	s.writes.Add(1)
	if err != nil {
		return err
	}
	return s.Store.UpdateCodes(ctx, f)
}

func (p *fixture) blockStore() *blockingStore {
	s := &blockingStore{Store: p.Store, started: make(chan struct{}), result: make(chan error)}
	p.Store = s
	return s
}

func (p *fixture) lookup(b codes.Batch, index int64) codes.Found {
	p.t.Helper()
	return require.Value(p.Lookup(p.t.Context(), codes.CodeName{ID: b.ID, Index: index, HasIndex: true}))(p.t)
}

func TestDesk_FirstScanKept(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	_, ok, err := p.writer.FirstScan(t.Context(), b.ID, 3)
	require.True(t, !ok && err == nil, "first scan of a new code: %v, %v, want none", ok, err)
	start := p.now()
	for n, scan := range []codes.CodeScan{{Scan: "first", UserHash: "aa", User: "u", Namespace: "default"},
		{Scan: "second", UserHash: "bb"},
		{Scan: "third"}} {
		scan.Found, scan.At = p.lookup(b, 3), p.now()
		r := require.Value(p.writer.Enqueue(t.Context(), scan))(t)
		ticket, err := r.Wait(t.Context())
		require.True(t, err == nil && (ticket == "") == (n > 0), "scan %d: ticket %q, %v, want a ticket for the first scan only", n, ticket,
			err)
		p.advance(time.Minute)
	}
	want := codes.FirstScan{Batch: b.ID, Index: 3, At: start, Scan: "first", User: "aa"}
	got, ok, err := p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.True(t, ok && err == nil && got == want, "FirstScan = %+v, %v, %v, want %+v", got, ok, err, want)
	_, ok, err = p.writer.FirstScan(t.Context(), b.ID, 4)
	assert.True(t, !ok && err == nil, "first scan of another code: %v, %v, want none", ok, err)
	openID := func(string) string { return "no openid" }
	require.NoError(t, p.writer.Erase(t.Context(), "bb", openID))
	got, _, _ = p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.Equal(t, got, want, "first scan after the erasure of another user")
	require.NoError(t, p.writer.Erase(t.Context(), "aa", openID))
	want.User = ""
	got, _, _ = p.writer.FirstScan(t.Context(), b.ID, 3)
	assert.Equal(t, got, want, "first scan after the erasure of its user")
}

// TestDesk_BatchesTransactions verifies that scans that are enqueued while a transaction runs are written together in the next one.
func TestDesk_BatchesTransactions(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 1000)
	s := p.blockStore()
	enqueue := func(n int) *codes.Pending {
		r := require.Value(p.writer.Enqueue(t.Context(), codes.CodeScan{Found: p.lookup(b, int64(n%100)), Scan: fmt.Sprint(n), At: p.now(),
			User: fmt.Sprint(n), Namespace: "default"}))(t)
		return r
	}
	all := []*codes.Pending{enqueue(0)}
	<-s.started
	for n := 1; n <= 300; n++ {
		all = append(all, enqueue(n))
	}
	go func() {
		for range 3 {
			s.result <- nil
			select {
			case <-s.started:
			case <-t.Context().Done():
			}
		}
	}()
	tickets := map[string]bool{}
	for _, r := range all {
		ticket := require.Value(r.Wait(t.Context()))(t)
		tickets[ticket] = true
	}
	if n := s.writes.Load(); n != 3 || len(tickets) != 301 { // 1, 256 and 44 scans
		t.Errorf("%d transactions, %d tickets, want 3 and 301", n, len(tickets))
	}
	for index := range int64(100) {
		first, ok, err := p.writer.FirstScan(t.Context(), b.ID, index)
		assert.True(t, ok && err == nil && first.Scan == fmt.Sprint(index), "FirstScan(%d) = %+v, %v, want scan %d", index, first, err,
			index)
	}
}

// TestDesk_FailedTransactionNoTicket verifies that a failed transaction returns its error and no ticket, and that the next one succeeds.
func TestDesk_FailedTransactionNoTicket(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	s := p.blockStore()
	fault := errors.New("no database")
	for _, result := range []error{fault, nil} {
		r := require.Value(p.writer.Enqueue(t.Context(), codes.CodeScan{Found: p.lookup(b, 0), Scan: "s", At: p.now(), User: "u",
			Namespace: "default"}))(t)
		<-s.started
		s.result <- result
		ticket, err := r.Wait(t.Context())
		if result == nil {
			assert.True(t, ticket != "" && err == nil, "ticket %q, %v, want a ticket", ticket, err)
			continue
		}
		assert.True(t, ticket == "" && errors.Is(err, codes.ErrScanNotWritten) && errors.Is(err, fault), "ticket %q, %v, want %v", ticket,
			err, fault)
	}
}

// TestDesk_QueueFull verifies that Enqueue blocks while the queue is full until a place is free or the context is done.
func TestDesk_QueueFull(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	s := p.blockStore()
	v := codes.CodeScan{Found: p.lookup(b, 0), Scan: "s", At: p.now()}
	for range 4096 {
		require.NoError(t, assert.ErrorOf(p.writer.Enqueue(t.Context(), v)))
	}
	<-s.started
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, assert.ErrorOf(p.writer.Enqueue(canceled, v)), codes.ErrQueueFull, "Enqueue with a full queue and a canceled context")
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
			case s.result <- nil:
			case <-s.started:
			case <-t.Context().Done():
				return
			}
		}
	}()
	assert.NoError(t, (<-waiting))
}

// TestDesk_TicketCache verifies that Exchange reads a ticket from the store if it is not cached, and otherwise needs no store access.
func TestDesk_TicketCache(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	ticket := p.issueTicket(p.lookup(b, 0), "u")
	openid := p.OpenIDs.OpenID("default", "svc", "u")
	store := p.Store
	p.Store = nil // a store access would panic
	assert.NoError(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)))
	p.Store = store
	p.ClearTicketCache()
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)), "exchange from the store")
	p.Store = nil
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, ticket)), "exchange from the cache")
}
