package codes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// CodeScan is one scan of a code by an app, as passed to TicketWriter.
type CodeScan struct {
	Found Found
	Scan  string // the scan id
	At    time.Time
	// UserHash identifies the user in the scan log; "" = an anonymous scan.
	UserHash string
	// User is the user who receives a ticket; "" = no ticket is created.
	Namespace, User string
}

// FirstScan records the first scan of a code by an app; it is written once, and only Erase changes it.
type FirstScan struct {
	Batch int64
	Index int64
	At    time.Time
	Scan  string // the scan id
	User  string // hexadecimal user hash as in the scan log; "" = an anonymous scan
}

var (
	// ErrNoFirstScan is returned for a code that was never scanned by an app.
	ErrNoFirstScan = errors.New("codes: the code has not been scanned")
	// ErrScanNotWritten is returned if a scan of a code cannot be written.
	ErrScanNotWritten = errors.New("codes: the scan cannot be stored")
	// ErrQueueFull is returned if the queue of scans stays full.
	ErrQueueFull = fmt.Errorf("%w: the queue is full", ErrScanNotWritten)
)

const (
	// maxGroup is the maximum number of scans in one transaction: a group commit with one fsync.
	maxGroup = 256
	// queueSize is the capacity of the queue of scans; while the queue is full, Enqueue blocks.
	queueSize = 4096
	// writeTimeout is the timeout of one transaction.
	writeTimeout = 10 * time.Second
	// deleteInterval is the interval at which expired tickets are deleted.
	deleteInterval = time.Minute
	// maxDeleted is the number of tickets that one transaction deletes. maxDeleted is larger than the number of tickets created by
	// one transaction, so that deletion keeps up. If no ticket was created for a long time, millions of tickets may have expired; the limit
	// prevents scans from waiting until all are deleted.
	maxDeleted = 4 * maxGroup
)

// TicketWriter stores scans of codes before the server responds: the first scan of a code and the ticket of its user. Scans that
// arrive during a transaction share the next transaction (group commit).
type TicketWriter struct {
	service *Service
	slots   chan struct{}

	mu        sync.Mutex
	queue     []*Pending
	writing   bool
	deletedAt time.Time
}

// NewTicketWriter returns a TicketWriter for the Service s.
func NewTicketWriter(s *Service) *TicketWriter {
	return &TicketWriter{service: s, slots: make(chan struct{}, queueSize)}
}

// Pending is a scan that waits to be written.
type Pending struct {
	firstScan FirstScan
	ticket    *Ticket
	text      string
	done      chan struct{}
	err       error
}

// Wait returns the ticket ("" for a scan without a ticket) once the ticket and the first scan of the code are durable. ErrScanNotWritten.
func (p *Pending) Wait(ctx context.Context) (ticket string, err error) {
	select {
	case <-p.done:
		return p.text, p.err
	case <-ctx.Done():
		// The write may still succeed; in that case the client does not receive the ticket.
		return "", fmt.Errorf("%w: %w", ErrScanNotWritten, context.Cause(ctx))
	}
}

// Enqueue queues a scan to be written. Enqueue blocks only if the queue is full; it returns ErrQueueFull if ctx is done while it blocks.
func (w *TicketWriter) Enqueue(ctx context.Context, v CodeScan) (*Pending, error) {
	r := &Pending{firstScan: FirstScan{Batch: v.Found.Batch.ID, Index: v.Found.Index, At: v.At, Scan: v.Scan, User: v.UserHash},
		done: make(chan struct{})}
	if v.User != "" {
		t, text, err := w.service.newTicket(v.Found, v.Namespace, v.User)
		if err != nil {
			return nil, err
		}
		r.ticket, r.text = &t, text
	}
	select {
	case w.slots <- struct{}{}:
	default:
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrQueueFull, context.Cause(ctx))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, r)
	if !w.writing {
		w.writing = true
		go w.write()
	}
	return r, nil
}

// write writes groups of scans until the queue is empty.
func (w *TicketWriter) write() {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.writing = false
			w.queue = nil
			w.mu.Unlock()
			return
		}
		n := min(len(w.queue), maxGroup)
		group := w.queue[:n:n]
		w.queue = w.queue[n:]
		w.mu.Unlock()
		err := w.commit(group)
		for _, r := range group {
			if r.err = err; err != nil {
				r.text = ""
			} else if r.ticket != nil {
				w.service.ticketCache.add(*r.ticket)
			}
			close(r.done)
			<-w.slots
		}
	}
}

// commit writes a group of scans in one transaction.
func (w *TicketWriter) commit(group []*Pending) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w: %v", ErrScanNotWritten, fault)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	var tickets []Ticket
	firsts := make([]FirstScan, 0, len(group))
	for _, r := range group {
		firsts = append(firsts, r.firstScan)
		if r.ticket != nil {
			tickets = append(tickets, *r.ticket)
		}
	}
	// All nodes write codes in the same order, which prevents deadlocks. If a group has several scans of one code, the earliest scan is
	// stored as the first scan.
	slices.SortStableFunc(firsts, func(a, b FirstScan) int {
		return cmp.Or(cmp.Compare(a.Batch, b.Batch), cmp.Compare(a.Index, b.Index))
	})
	firsts = slices.CompactFunc(firsts, func(a, b FirstScan) bool { return a.Batch == b.Batch && a.Index == b.Index })
	now := w.service.Now()
	due := w.deletedAt.IsZero() || now.Sub(w.deletedAt) >= deleteInterval || now.Before(w.deletedAt)
	deleteExpired := len(tickets) > 0 && due && w.service.canDeleteExpired()
	var deleted int64
	err = w.service.Store.UpdateCodes(ctx, func(tx Tx) (err error) {
		tx.MarkIdempotent() // the transaction can be repeated: it does not change a first scan or a ticket that is already stored
		if deleteExpired {
			if deleted, err = tx.ForgetTickets(ctx, now.Add(-ticketGrace), maxDeleted); err != nil {
				return err
			}
		}
		if err := tx.AddFirstScans(ctx, firsts); err != nil {
			return err
		}
		return tx.PutTickets(ctx, tickets)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrScanNotWritten, err)
	}
	if deleteExpired {
		// deletedAt needs no lock: only commit uses it, and only one goroutine at a time calls commit. The zero time makes the next
		// transaction continue the deletion.
		w.deletedAt = now
		if deleted == maxDeleted {
			w.deletedAt = time.Time{}
		}
	}
	return nil
}

// Erase makes the first scans of a user anonymous and deletes the user's tickets and openids. openID returns the user's openid for
// an account.
func (w *TicketWriter) Erase(ctx context.Context, userHash string, openID func(account string) string) error {
	err := w.service.Store.UpdateCodes(ctx, func(tx Tx) error {
		if err := tx.EraseFirstScans(ctx, userHash); err != nil {
			return err
		}
		return tx.EraseOpenIDs(ctx, openID)
	})
	w.service.ClearTicketCache()
	return err
}

// FirstScan returns the first scan of a code; ok is false if no app has scanned it. Views in a browser do not count as scans.
func (w *TicketWriter) FirstScan(ctx context.Context, batch, index int64) (first FirstScan, ok bool, err error) {
	first, err = accounts.Transact(ctx, w.service.Store.ViewCodes, func(tx Tx) (FirstScan, error) {
		return tx.FirstScan(ctx, batch, index)
	})
	if errors.Is(err, ErrNoFirstScan) {
		return FirstScan{}, false, nil
	}
	return first, err == nil, err
}
