package codes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
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

// FirstScan records the first scan of a code by an app; it is written once and never changes.
type FirstScan struct {
	Batch int64
	Index int64
	At    time.Time
	Scan  string // the scan id
	User  string // hexadecimal user hash as in the scan log; "" = an anonymous scan
}

var (
	// ErrNoFirstScan is returned for a code that was never scanned by an app.
	ErrNoFirstScan = errors.New("codes: no app scanned this code yet")
	// ErrDesk is returned if a scan of a code cannot be written.
	ErrDesk = errors.New("codes: the scan cannot be written")
	// ErrDeskBusy is returned if the queue of scans stays full.
	ErrDeskBusy = fmt.Errorf("%w: too many wait", ErrDesk)
)

const (
	// deskGroup is the maximum number of scans in one transaction: a group commit with one fsync.
	deskGroup = 256
	// deskQueue is the capacity of the queue of scans; a scan that finds the queue full blocks until there is room.
	deskQueue = 4096
	// deskWrite is the timeout of one transaction.
	deskWrite = 10 * time.Second
	// forgetEvery is the interval at which expired tickets are deleted.
	forgetEvery = time.Minute
	// forgetAtOnce is the number of tickets that one transaction deletes. forgetAtOnce is larger than the number of tickets created
	// by one transaction, so that deletion keeps up. After a pause millions of tickets may have expired; the limit keeps scans from
	// waiting until all are deleted.
	forgetAtOnce = 4 * deskGroup
)

// TicketWriter stores scans of codes before the server responds: the first scan of a code and the ticket of its user. Scans that
// arrive during a transaction share the next transaction (group commit).
type TicketWriter struct {
	press  *Service
	places chan struct{}

	mu      sync.Mutex
	waiting []*Pending
	writing bool
	forgot  time.Time
}

// NewTicketWriter returns a TicketWriter for the Service p.
func NewTicketWriter(p *Service) *TicketWriter {
	return &TicketWriter{press: p, places: make(chan struct{}, deskQueue)}
}

// Pending is a scan that waits to be written.
type Pending struct {
	first  FirstScan
	ticket *Ticket
	text   string
	done   chan struct{}
	err    error
}

// Wait returns the ticket ("" for a scan without a ticket) once the ticket and the first scan of the code are durable. ErrDesk.
func (r *Pending) Wait(ctx context.Context) (ticket string, err error) {
	select {
	case <-r.done:
		return r.text, r.err
	case <-ctx.Done():
		// The write may still succeed; then its ticket is not returned.
		return "", fmt.Errorf("%w: %w", ErrDesk, context.Cause(ctx))
	}
}

// Visit queues a scan to be written. Visit blocks only if the queue is full; it returns ErrDeskBusy if ctx is done while it blocks.
func (d *TicketWriter) Visit(ctx context.Context, v CodeScan) (*Pending, error) {
	r := &Pending{first: FirstScan{Batch: v.Found.Batch.ID, Index: v.Found.Index, At: v.At, Scan: v.Scan, User: v.UserHash},
		done: make(chan struct{})}
	if v.User != "" {
		t, text, err := d.press.newTicket(v.Found, v.Namespace, v.User)
		if err != nil {
			return nil, err
		}
		r.ticket, r.text = &t, text
	}
	select {
	case d.places <- struct{}{}:
	default:
		select {
		case d.places <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDeskBusy, context.Cause(ctx))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, r)
	if !d.writing {
		d.writing = true
		go d.write()
	}
	return r, nil
}

// write writes groups of scans until the queue is empty.
func (d *TicketWriter) write() {
	for {
		d.mu.Lock()
		if len(d.waiting) == 0 {
			d.writing = false
			d.waiting = nil
			d.mu.Unlock()
			return
		}
		n := min(len(d.waiting), deskGroup)
		group := d.waiting[:n:n]
		d.waiting = d.waiting[n:]
		d.mu.Unlock()
		err := d.commit(group)
		for _, r := range group {
			if r.err = err; err != nil {
				r.text = ""
			} else if r.ticket != nil {
				d.press.recent.remember(*r.ticket)
			}
			close(r.done)
			<-d.places
		}
	}
}

// commit writes a group of scans in one transaction.
func (d *TicketWriter) commit(group []*Pending) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w: %v", ErrDesk, fault)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), deskWrite)
	defer cancel()
	var tickets []Ticket
	firsts := make([]FirstScan, 0, len(group))
	for _, r := range group {
		firsts = append(firsts, r.first)
		if r.ticket != nil {
			tickets = append(tickets, *r.ticket)
		}
	}
	// All nodes write codes in the same order, which prevents deadlocks. If a group has several scans of one code, the earliest
	// scan counts.
	slices.SortStableFunc(firsts, func(a, b FirstScan) int {
		return cmp.Or(cmp.Compare(a.Batch, b.Batch), cmp.Compare(a.Index, b.Index))
	})
	firsts = slices.CompactFunc(firsts, func(a, b FirstScan) bool { return a.Batch == b.Batch && a.Index == b.Index })
	now := d.press.Now()
	forget := len(tickets) > 0 && (d.forgot.IsZero() || now.Sub(d.forgot) >= forgetEvery || now.Before(d.forgot)) && d.press.mayForget()
	var forgotten int64
	err = d.press.Store.UpdateCodes(ctx, func(tx Tx) (err error) {
		tx.MarkIdempotent() // already stored first scans and tickets stay unchanged, so the transaction can be repeated
		if forget {
			if forgotten, err = tx.ForgetTickets(ctx, now.Add(-ticketGrace), forgetAtOnce); err != nil {
				return err
			}
		}
		if err := tx.AddFirstScans(ctx, firsts); err != nil {
			return err
		}
		return tx.PutTickets(ctx, tickets)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDesk, err)
	}
	if forget {
		// Only write accesses forgot, and at most one write runs at a time. If more tickets may have expired, the next transaction
		// continues the deletion.
		d.forgot = now
		if forgotten == forgetAtOnce {
			d.forgot = time.Time{}
		}
	}
	return nil
}

// Erase makes the first scans of a user anonymous and deletes the user's tickets and openids. openID returns the user's openid for
// an account.
func (d *TicketWriter) Erase(ctx context.Context, userHash string, openID func(account string) string) error {
	err := d.press.Store.UpdateCodes(ctx, func(tx Tx) error {
		if err := tx.EraseFirstScans(ctx, userHash); err != nil {
			return err
		}
		return tx.EraseOpenIDs(ctx, openID)
	})
	d.press.Forget()
	return err
}

// First returns the first scan of a code; ok is false if no app has scanned it. Views in a browser do not count as scans.
func (d *TicketWriter) First(ctx context.Context, batch, index int64) (first FirstScan, ok bool, err error) {
	err = d.press.Store.ViewCodes(ctx, func(tx Tx) (err error) {
		first, err = tx.FirstScan(ctx, batch, index)
		return err
	})
	if errors.Is(err, ErrNoFirstScan) {
		return FirstScan{}, false, nil
	}
	return first, err == nil, err
}
