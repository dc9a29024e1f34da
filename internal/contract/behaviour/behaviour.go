// Package behaviour defines the table of server behaviours that may differ from the behaviours of the Weixin platform, each with
// its evidence level.
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
	Observed   Evidence = "observed"   // quoted from a real response of the platform
	Documented Evidence = "documented" // stated by the platform's documentation
	Inferred   Evidence = "inferred"   // follows from several sources, none of which states the behaviour
	Assumed    Evidence = "assumed"    // no source covers the behaviour: qrjump chose it
)

// EvidenceLevels lists all levels, the strongest first.
var EvidenceLevels = []Evidence{Observed, Documented, Inferred, Assumed}

// Surer reports whether the level m is at least as strong as the level other.
func (m Evidence) Surer(other Evidence) bool { return m.rank() <= other.rank() }

func (m Evidence) rank() int {
	for i, EvidenceLevel := range EvidenceLevels {
		if EvidenceLevel == m {
			return i
		}
	}
	return len(EvidenceLevels)
}

// Behaviour is one row of the behaviour table.
type Behaviour struct {
	ID       string // never changes once released
	Evidence Evidence
	Section  string // section of docs/contract, for example "rules 1.4" or "marketcode 3.5"
	Source   string // source of the evidence; "" = none
	Date     string // date of the newest evidence, as 2006-01-02 or a prefix such as 2006-01
	Until    string // first day on which the platform was observed to behave differently; "" = the behaviour is current
}

// staleAfter is the age in years from which the newest evidence is reported as old.
const staleAfter = 3

// Stale reports whether the newest evidence of the behaviour was more than three years old at time t.
func (b Behaviour) Stale(t time.Time) bool {
	return b.Date != "" && b.Date < t.AddDate(-staleAfter, 0, 0).Format(time.DateOnly)
}

// Description returns one sentence that describes the behaviour of the server.
func (b Behaviour) Description() i18n.Message { return book.Text(b.ID) }

// Known describes the evidence level of the behaviour and the date of its evidence, as seen at time t.
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

// IsFormer reports whether the platform still had the former behaviour r on the given day. IsFormer returns false for the day "", which
// means today: a former behaviour has ended before today.
func (r Row) IsFormer(day string) bool { return day != "" && day < table[r].Until }

// Row is the index of a behaviour in the table. The index is valid only within this process: stored and displayed data contain the
// ID of the behaviour.
type Row uint16

// NoRow is the row for all behaviour that has no counterpart on the platform, such as that of the operator's own API.
const NoRow Row = 0

// maxRows limits the number of rows in the table, so that the Notes of a call have a fixed size.
const maxRows = 512

var table = make([]Behaviour, 1, maxRows)

func define(b Behaviour) Row {
	if len(table) == maxRows {
		panic("behaviour: more rows than maxRows")
	}
	table = append(table, b)
	return Row(len(table) - 1)
}

// Get returns the behaviour with index r.
func (r Row) Get() Behaviour { return table[r] }

// String returns the ID of the behaviour.
func (r Row) String() string { return table[r].ID }

// MarshalText returns the ID of the behaviour, which is its stored and displayed form.
func (r Row) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// All returns all behaviours in the order of the table, without NoRow.
func All() []Behaviour { return table[1:] }

// ByID finds a row by its ID; ok is false if the table has no such row.
func ByID(id string) (row Row, ok bool) {
	for i, b := range table[1:] {
		if b.ID == id {
			return Row(i + 1), true
		}
	}
	return 0, false
}

// Newest returns the date of the newest evidence in the table: generated documents judge the age of evidence relative to that date,
// so that their text does not change with the clock.
func Newest() time.Time {
	var newest time.Time
	for _, b := range All() {
		if t, err := time.Parse(time.DateOnly, b.Date); err == nil && t.After(newest) {
			newest = t
		}
	}
	return newest
}

// Notes is the set of behaviours that decided the result of a call. The zero value of Notes is empty, and Add on a nil *Notes does
// nothing. Notes is safe for concurrent use, because a transaction may outlive its caller.
type Notes struct {
	rows [maxRows / 64]atomic.Uint64
}

// Add adds a row to the set; adding a row twice has no further effect.
func (n *Notes) Add(row Row) {
	if n != nil && row != NoRow {
		n.rows[row/64].Or(1 << (row % 64))
	}
}

// Take removes a row from the set and reports whether the row was present.
func (n *Notes) Take(row Row) bool {
	bit := uint64(1) << (row % 64)
	return n.rows[row/64].And(^bit)&bit != 0
}

// Clear removes all rows from the set.
func (n *Notes) Clear() {
	for i := range n.rows {
		n.rows[i].Store(0)
	}
}

// Rows is a list of the behaviours that affected a call, in the order of the table of behaviours. Log entries show Rows as the IDs of
// the behaviours.
type Rows []Row

// MarshalText writes the IDs in brackets, separated by spaces, as a text log shows a list.
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

// MarshalJSON writes the IDs as a JSON array of strings.
func (r Rows) MarshalJSON() ([]byte, error) { return json.Marshal([]Row(r)) }

// Rows returns the rows that were added so far; nil if the set is empty.
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

// Noting returns a copy of ctx; every call of Note with this copy adds its row to n.
func Noting(ctx context.Context, n *Notes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

// Note adds a row to the Notes in ctx; if ctx contains no Notes, Note does nothing.
func Note(ctx context.Context, row Row) {
	n, _ := ctx.Value(notesKey{}).(*Notes)
	n.Add(row)
}

// read is the date on which the documentation of the platform was read for the contract.
const read = "2026-11-20"

func observed(id, section, source, date string) Row {
	return define(Behaviour{ID: id, Evidence: Observed, Section: section, Source: source, Date: date})
}

// former returns a row for a former behaviour of the platform. date is the date of its newest evidence, and end is the first day on which
// the platform was observed to behave differently.
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
