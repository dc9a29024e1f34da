// Package behaviour is the table of what the server does where the platform
// might differ, with how sure each row is.
package behaviour

import (
	"context"
	"embed"
	"encoding/json"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// Evidence is the level of evidence of a row; docs/contract/README.md explains the levels.
type Evidence string

// The levels of evidence, the strongest first.
const (
	Observed   Evidence = "observed"   // quoted from a live answer of the platform
	Documented Evidence = "documented" // stated by the platform's documentation
	Inferred   Evidence = "inferred"   // follows from several sources, none of which says it
	Assumed    Evidence = "assumed"    // nothing says it: this is what qrjump does
)

// EvidenceLevels lists all levels, the strongest first.
var EvidenceLevels = []Evidence{Observed, Documented, Inferred, Assumed}

// Surer reports whether m is at least as sure as other.
func (m Evidence) Surer(otherEvidence Evidence) bool { return m.rank() <= otherEvidence.rank() }

func (m Evidence) rank() int {
	for i, EvidenceLevel := range EvidenceLevels {
		if EvidenceLevel == m {
			return i
		}
	}
	return len(EvidenceLevels)
}

// Behaviour is one line of the table.
type Behaviour struct {
	ID       string // never changes once released
	Evidence Evidence
	Section  string // of docs/contract: "rules 1.4", "marketcode 3.5"
	Source   string // the evidence; "" where there is none
	Date     string // of the newest evidence, 2006-01-02 or the beginning of it
	Until    string // the first day of evidence of something else: the platform left this; "" = it does so still
}

// staleAfter is the age in months from which the newest evidence is reported as old.
const staleAfter = 3

// Stale reports whether the newest evidence was older than three years at a time.
func (b Behaviour) Stale(t time.Time) bool {
	return b.Date != "" && b.Date < t.AddDate(-staleAfter, 0, 0).Format(time.DateOnly)
}

// Says returns one sentence that describes what the server does.
func (b Behaviour) Says() i18n.Message { return book.Text(b.ID) }

// Known says how the row is known at a time.
func (b Behaviour) Known(t time.Time) i18n.Message {
	if b.Evidence == "" {
		return i18n.Message{}
	}
	known := book.Text("known." + string(b.Evidence))
	switch {
	case b.Stale(t):
		return book.Text("known.stale", known, b.Date)
	case b.Date != "":
		return book.Text("known.dated", known, b.Date)
	}
	return known
}

// IsFormer reports whether the platform still did on a day what a row of former times says;
// "" = today, when it does none of these.
func (r Row) IsFormer(day string) bool { return day != "" && day < table[r].Until }

// Row names a line of the table. The number is for this process alone: what is
// kept or shown is the id.
type Row uint16

// NoRow is the row of what the platform has no like of: the operator's own API.
const NoRow Row = 0

// maxRows bounds the table, so that a call's notes have a fixed size.
const maxRows = 512

var table = make([]Behaviour, 1, maxRows)

func define(b Behaviour) Row {
	if len(table) == maxRows {
		panic("behaviour: more rows than maxRows")
	}
	table = append(table, b)
	return Row(len(table) - 1)
}

// Get returns the line that a row names.
func (r Row) Get() Behaviour { return table[r] }

// String returns the row's id.
func (r Row) String() string { return table[r].ID }

// MarshalText writes the id, as it is kept and shown.
func (r Row) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// All returns the table in its order, without the line of row 0.
func All() []Behaviour { return table[1:] }

// ByID finds a row by its id; ok is false where there is none.
func ByID(id string) (row Row, ok bool) {
	for i, b := range table[1:] {
		if b.ID == id {
			return Row(i + 1), true
		}
	}
	return 0, false
}

// Newest returns the date of the newest evidence in the table: what is printed calls a
// mark old as of then, so that no page changes by itself.
func Newest() time.Time {
	var newest time.Time
	for _, b := range All() {
		if t, err := time.Parse(time.DateOnly, b.Date); err == nil && t.After(newest) {
			newest = t
		}
	}
	return newest
}

// Notes are the rows that decided a call. The zero value has none, and a nil
// *Notes takes none. Many may add at once: a transaction may outlive its caller.
type Notes struct {
	rows [maxRows / 64]atomic.Uint64
}

// Add notes a row; a row is noted once, however often it is met.
func (n *Notes) Add(row Row) {
	if n != nil && row != NoRow {
		n.rows[row/64].Or(1 << (row % 64))
	}
}

// Take takes a row back, and reports whether it was noted.
func (n *Notes) Take(row Row) bool {
	bit := uint64(1) << (row % 64)
	return n.rows[row/64].And(^bit)&bit != 0
}

// Clear takes all notes back.
func (n *Notes) Clear() {
	for i := range n.rows {
		n.rows[i].Store(0)
	}
}

// Rows are rows that were noted, in the order of the table. A log shows their ids.
type Rows []Row

// MarshalText writes the ids as a log of texts shows a list.
func (r Rows) MarshalText() ([]byte, error) {
	b := append(make([]byte, 0, 32*len(r)), '[')
	for i, row := range r {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, row.String()...)
	}
	return append(b, ']'), nil
}

// MarshalJSON writes the ids as a list of texts.
func (r Rows) MarshalJSON() ([]byte, error) { return json.Marshal([]Row(r)) }

// Rows returns the rows noted so far, nil if there are none.
func (n *Notes) Rows() Rows {
	var list Rows
	for i := range n.rows {
		for left := n.rows[i].Load(); left != 0; left &= left - 1 {
			list = append(list, Row(i*64+bits.TrailingZeros64(left)))
		}
	}
	return list
}

type notesKey struct{}

// Noting returns a context whose decisions are noted in n.
func Noting(ctx context.Context, n *Notes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

// Note notes that a row decided the call of a context; outside a call it does nothing.
func Note(ctx context.Context, row Row) {
	n, _ := ctx.Value(notesKey{}).(*Notes)
	n.Add(row)
}

// read is the date on which the documentation pages were read for the contract.
const read = "2026-11-20"

func seen(id, section, source, date string) Row {
	return define(Behaviour{ID: id, Evidence: Observed, Section: section, Source: source, Date: date})
}

// former returns a row that was seen, until a day on which the platform was seen, or read, to do otherwise.
func former(id, section, date, end string) Row {
	return define(Behaviour{ID: id, Evidence: Observed, Section: section, Source: live, Date: date, Until: end})
}

func page(id, section, source string) Row {
	return define(Behaviour{ID: id, Evidence: Documented, Section: section, Source: source, Date: read})
}

func inferred(id, section, source string) Row {
	return define(Behaviour{ID: id, Evidence: Inferred, Section: section, Source: source})
}

func choice(id, section string) Row {
	return define(Behaviour{ID: id, Evidence: Assumed, Section: section})
}
