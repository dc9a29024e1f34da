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

// CodeScan is one scan of a code by an app, as the desk keeps it.
type CodeScan struct {
	Found Found
	Scan  string // the scan id
	At    time.Time
	// UserHash names the user in the ledger; "" = an anonymous scan.
	UserHash string
	// User gets a ticket; "" = no ticket is made.
	Namespace, User string
}

// FirstScan records the first scan of a code by an app: written once, and never changed.
type FirstScan struct {
	Batch int64
	Index int64
	At    time.Time
	Scan  string // the scan id
	User  string // in hexadecimal, as in the ledger; "" = an anonymous scan
}

var (
	// ErrNoFirstScan is returned for a code that no app scanned.
	ErrNoFirstScan = errors.New("codes: no app scanned this code yet")
	// ErrDesk is returned where a scan of a code cannot be written.
	ErrDesk = errors.New("codes: the scan cannot be written")
	// ErrDeskBusy is returned where more scans wait than the desk takes.
	ErrDeskBusy = fmt.Errorf("%w: too many wait", ErrDesk)
)

const (
	// deskGroup is the maximum number of scans in one transaction: a group commit with one fsync.
	deskGroup = 256
	// deskQueue is the capacity of the queue of scans; a later one blocks until there is room.
	deskQueue = 4096
	// deskWrite is the timeout of one transaction.
	deskWrite = 10 * time.Second
	// forgetEvery is the interval at which expired tickets are removed.
	forgetEvery = time.Minute
	// forgetAtOnce is the number of tickets that one transaction removes. It is more than one transaction makes, so that all go in
	// time. And after a pause, when millions may have expired, no scan waits until all of them are removed.
	forgetAtOnce = 4 * deskGroup
)

// TicketWriter stores scans of codes before they are answered: the first scan of a code
// and the ticket of its user. Scans that come while a transaction runs
// share the next one.
type TicketWriter struct {
	press  *Service
	places chan struct{}

	mu      sync.Mutex
	waiting []*Pending
	writing bool
	forgot  time.Time
}

// NewDesk returns the desk of a press.
func NewDesk(p *Service) *TicketWriter {
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

// Wait returns the ticket ("" for a scan without one) once it and the first
// scan of the code are durable. ErrDesk.
func (r *Pending) Wait(ctx context.Context) (ticket string, err error) {
	select {
	case <-r.done:
		return r.text, r.err
	case <-ctx.Done():
		// The write may still succeed; its ticket is not returned.
		return "", fmt.Errorf("%w: %w", ErrDesk, context.Cause(ctx))
	}
}

// Visit takes a scan. It waits only where the queue is full; ErrDeskBusy if ctx ends meanwhile.
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

// write writes groups until no scan waits.
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

// commit writes a group in one transaction.
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
	// Every node writes codes in the same order, so that no two wait for each other. Of several
	// scans of one code the one that came first counts.
	slices.SortStableFunc(firsts, func(a, b FirstScan) int {
		return cmp.Or(cmp.Compare(a.Batch, b.Batch), cmp.Compare(a.Index, b.Index))
	})
	firsts = slices.CompactFunc(firsts, func(a, b FirstScan) bool { return a.Batch == b.Batch && a.Index == b.Index })
	now := d.press.Now()
	forget := len(tickets) > 0 && (d.forgot.IsZero() || now.Sub(d.forgot) >= forgetEvery || now.Before(d.forgot)) && d.press.mayForget()
	var forgotten int64
	err = d.press.Store.UpdateCodes(ctx, func(tx Tx) (err error) {
		tx.MarkIdempotent() // first scans and tickets that are stored already stay as they are
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
		// Only write uses forgot, and one write runs at a time. Where more may have expired, the
		// next transaction goes on.
		if d.forgot = now; forgotten == forgetAtOnce {
			d.forgot = time.Time{}
		}
	}
	return nil
}

// Erase makes the first scans of a user anonymous, and removes the user's tickets and openids.
// openID is the user's openid under an account.
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

// First returns how a code was scanned for the first time; ok is false where
// no app scanned it. Views by browsers do not count.
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
