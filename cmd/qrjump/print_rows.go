package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"iter"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// packageKeyFlags holds the flags for the key that decrypts code packages.
type packageKeyFlags struct {
	Key     string `env:"QRJUMP_PACKAGE_KEY" placeholder:"KEY16"`
	KeyFile string `xor:"key" placeholder:"FILE" file:"in"`
}

func (f packageKeyFlags) key() (string, error) {
	if f.KeyFile != "" {
		return keyFile("--key-file", f.KeyFile)
	}
	if f.Key == "" {
		return "", misused("print_rows.codes_come_encrypted_give_the")
	}
	return f.Key, checkPackageKey(f.Key)
}

// rangeFlags holds the flags that select the codes to print, their source and their order.
type rangeFlags struct {
	member
	adminFlags
	packageKeyFlags
	FromFile string `placeholder:"FILE" file:"in"`
	Every    int64  `default:"1" placeholder:"N"`
	Shuffle  string `placeholder:"SEED"`
	Out      string `placeholder:"FILE" file:"out,self"`
	Resume   bool

	ID    int64    `kong:"-"`
	Range []string `kong:"-"`

	most int64 // The maximum number of labels, for proofs; 0 means all.
}

// rowSource is the source of rows: a server, or a file.
type rowSource struct {
	wire *client.Client
	// operator reads the rows of codes with a PIN, and of codes that another system produced; the latter have no dot matrix. If operator is
	// nil, the rows come from the wire API or the file.
	operator *client.Client
	pins     bool // The codes have a PIN.
	id       int64
	key      string
	file     string // If file is "", the rows come from the server.
	// pieces lists the parts of the range in order; a part lies within one segment of the application.
	pieces []client.CodeRange
	every  int64
	most   int64 // The maximum number of rows; 0 means the whole range.
}

// source returns the source of the rows for the selected codes.
func (f *rangeFlags) source(s *session) (src rowSource, err error) {
	if f.Out == "" {
		return src, misused("print_rows.out")
	}
	want, all, err := parseRange(f.Range)
	if err != nil {
		return src, err
	}
	if all {
		want = client.CodeRange{To: math.MaxInt64}
	}
	if f.Every < 1 {
		return src, misused("print_rows.every_want_1_or_more", f.Every)
	}
	src = rowSource{id: f.ID, every: f.Every, file: f.FromFile, most: f.most}
	if f.FromFile != "" {
		return src, src.boundByFile(want, f.codeCheck(s, f.adminFlags))
	}
	if exists, err := src.isListed(s, f.member, f.adminFlags, want); exists || err != nil {
		return src, err
	}
	if src.key, err = f.key(); err != nil {
		return src, err
	}
	if src.wire, err = f.client(s); err != nil {
		return src, err
	}
	return src, src.bound(s, want)
}

// bound splits the wanted range at the boundaries of the application's segments.
func (src *rowSource) bound(s *session, want client.CodeRange) error {
	src.every = max(src.every, 1)
	a, err := src.wire.Wire.GetApplication(s.ctx, client.ApplicationKey{ID: src.id})
	if err != nil {
		return aboutBatch("print", src.id, err)
	}
	src.pieces, err = piecesOf(a, want)
	return err
}

// pinPart matches the digits of a PIN in a template of code texts.
var pinPart = regexp.MustCompile(`\{digits:[4-8]\}`)

// isListed reports whether another system produced the codes, or the codes have a PIN; only an operator can find out. If so, isListed makes
// src read the rows from the operator's list of codes.
func (src *rowSource) isListed(s *session, m member, admin adminFlags, want client.CodeRange) (bool, error) {
	if isPlatform(m.Server) && admin.AdminServer == "" {
		return false, nil
	}
	operator, err := m.asOperator(admin)
	if err != nil {
		return false, nil // without access as an operator, the rows come from the wire API
	}
	b, err := operator.Batches.Get(s.ctx, src.id)
	src.pins = pinPart.MatchString(b.Text)
	if err != nil || !b.Imported && !src.pins {
		return false, nil // if there is an error, the later call of the wire API reports it
	}
	if want.To == math.MaxInt64 {
		want.To = b.Count - 1
	}
	switch {
	case b.Imported && b.Arrived < b.Count:
		return true, fault("print_rows.print_of_of_its_are", src.id, b.Arrived, countedCodes(b.Count))
	case want.To >= b.Count:
		return true, misused("batch_download.application_has_the_indexes_0", rangeText(want), src.id, b.Count-1)
	}
	src.operator, src.every, src.pieces = operator, max(src.every, 1), []client.CodeRange{want}
	return true, nil
}

// needMatrix returns an error if the rows have no dot matrix; it is called for a kind of output that needs the dot matrix.
func (src *rowSource) needMatrix(kind string) error {
	if src.operator == nil || src.pins {
		return nil
	}
	return hintError{error: fault("print_rows.imported_without_matrix", kind, src.id), next: tr("print_rows.take_another_form_or_print")}
}

// needKind calls needMatrix if labels of this kind contain the dot matrix.
func (src *rowSource) needKind(kind string) error {
	if kind != "matrix" && kind != "both" {
		return nil
	}
	return src.needMatrix("--kind " + kind)
}

// listAtOnce is the number of rows per request for codes that another system produced.
const listAtOnce = 10_000

// listed calls the function take for each row of the codes that another system produced.
func (src *rowSource) listed(ctx context.Context, r client.CodeRange, take func(labels.Row) bool) error {
	for from := r.From; from <= r.To; from += listAtOnce {
		var list bytes.Buffer
		if err := src.operator.Codes.Export(ctx, src.id, client.CodeRange{From: from, To: min(from+listAtOnce-1, r.To)},
			&list); err != nil {
			return err
		}
		records, err := csv.NewReader(&list).ReadAll()
		if err != nil {
			return err
		}
		columns := 3
		if src.pins {
			columns = 4
		}
		for _, record := range records[min(1, len(records)):] {
			index, err := strconv.ParseInt(record[0], 10, 64)
			if err != nil || len(record) != columns {
				return fault("print_rows.the_list_of_codes_has", record[0])
			}
			// The export writes an apostrophe before texts that look like formulas; no code begins with an apostrophe.
			row := labels.Row{Index: index, Code: strings.TrimPrefix(record[1], "'"), Text: strings.TrimPrefix(record[2], "'")}
			if src.pins {
				field := codes.Matrix([codes.CodeLength]byte([]byte(row.Code)))
				row.PIN, row.Matrix = record[3], string(field[:])
			}
			if !take(row) {
				return errEnough
			}
		}
	}
	return nil
}

// checkedAtOnce is the number of file rows per validation request to the server.
const checkedAtOnce = 1000

// boundByFile checks that the file contains the wanted range, without gaps and sorted by index, and that each row has a valid text; src
// then reads the range from the file.
func (src *rowSource) boundByFile(want client.CodeRange, check *codeCheck) error {
	first, last, line := int64(-1), int64(-1), 0
	var page []labels.Row
	ask := func() error {
		if i, err := check.rows(src.id, page); err != nil {
			return misused("print_rows.line", src.file, line-len(page)+i+1, err)
		}
		page = page[:0]
		return nil
	}
	for r, err := range src.fileRows() {
		if err != nil {
			return err
		}
		if last >= 0 && r.Index != last+1 {
			return fault("print_rows.index_follows_want_all_rows", src.file, r.Index, last)
		}
		if last, line = r.Index, line+1; line == 1 {
			first = r.Index
		}
		if page = append(page, r); len(page) == checkedAtOnce {
			if err := ask(); err != nil {
				return err
			}
		}
	}
	if err := ask(); err != nil {
		return err
	}
	if want.To == math.MaxInt64 {
		want = client.CodeRange{From: first, To: last}
	}
	if first < 0 || want.From < first || want.To > last {
		return misused("print_rows.has_the_indexes_to", rangeText(want), src.file, first, last)
	}
	src.pieces = []client.CodeRange{want}
	return nil
}

func (src *rowSource) fileRows() iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		f, err := os.Open(src.file)
		if err != nil {
			yield(labels.Row{}, misused("print_rows.from_file", err))
			return
		}
		defer f.Close()
		for r, err := range labels.Rows(f) {
			if err != nil {
				err = fault("batch.of_2", src.file, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// fullRange returns the range from the first index of the first piece to the last index of the last piece.
func (src *rowSource) fullRange() client.CodeRange {
	return client.CodeRange{From: src.pieces[0].From, To: src.pieces[len(src.pieces)-1].To}
}

// inRange returns the number of selected rows in the range.
func (src *rowSource) inRange() int64 { return (src.fullRange().Len() + src.every - 1) / src.every }

// count returns the number of rows that are printed.
func (src *rowSource) count() int64 {
	if src.most != 0 {
		return min(src.most, src.inRange())
	}
	return src.inRange()
}

// rows returns the selected rows (every n-th row of the range) whose index is at least from.
func (src *rowSource) rows(ctx context.Context, from int64) iter.Seq2[labels.Row, error] {
	begin := src.fullRange().From
	return func(yield func(labels.Row, error) bool) {
		for _, piece := range src.pieces {
			if piece.From = max(piece.From, from); piece.From > piece.To {
				continue
			}
			next := piece.From
			for r, err := range src.fetchRange(ctx, piece) {
				if err == nil && r.Index != next {
					err = fault("print_rows.batch_index_came_where_is", src.id, r.Index, next)
				}
				next++
				if err == nil && (r.Index-begin)%src.every != 0 {
					continue
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
			if next != piece.To+1 {
				yield(labels.Row{}, fault("print_rows.batch_the_rows_end_at", src.id, next-1, piece.To))
				return
			}
		}
	}
}

// fetchRange returns the rows of a part of a segment.
func (src *rowSource) fetchRange(ctx context.Context, r client.CodeRange) iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		if src.file != "" {
			for row, err := range src.fileRows() {
				if err == nil && (row.Index < r.From || row.Index > r.To) {
					continue
				}
				if !yield(row, err) {
					return
				}
			}
			return
		}
		// The server may close the connection while drawing is slow. After a closed connection, the download continues at the next row,
		// unless the last attempt returned no rows.
		for next := r.From; next <= r.To; {
			began := next
			err := src.download(ctx, client.CodeRange{From: next, To: r.To}, func(row labels.Row) bool {
				next++
				return yield(row, nil)
			})
			switch {
			case errors.Is(err, errEnough):
				return
			case err == nil && next == began:
				return // the caller notices missing rows
			case err == nil || next > began && ctx.Err() == nil:
				continue
			case errors.Is(err, client.ErrPackageKey):
				err = hintError{error: err, next: tr("batch_download.give_the_package_key_of")}
			}
			yield(labels.Row{}, aboutBatch("download "+rangeText(r)+" of", src.id, err))
			return
		}
	}
}

// errEnough stops a download when no further rows are needed.
var errEnough = errors.New("enough")

// download calls the function take for each row of a part of a segment, until take returns false.
func (src *rowSource) download(ctx context.Context, r client.CodeRange, take func(labels.Row) bool) error {
	if src.operator != nil {
		return src.listed(ctx, r, take)
	}
	pkg, err := src.wire.Wire.DownloadCodes(ctx, src.id, r)
	if err != nil {
		return err
	}
	defer pkg.Close()
	opened, err := client.Rows(pkg, src.key)
	if err != nil {
		return err
	}
	for row, err := range labels.Rows(opened) {
		if err != nil {
			return err
		}
		if !take(row) {
			return errEnough
		}
	}
	return nil
}

// ordered returns the rows in print order (--shuffle), beginning with the n-th. The caller calls clean after reading the rows.
func (f *rangeFlags) ordered(ctx context.Context, src *rowSource, n int64) (rows iter.Seq2[labels.Row, error], clean func(), err error) {
	if f.Shuffle == "" {
		return src.limitRows(src.rows(ctx, src.fullRange().From+n*src.every)), func() {}, nil
	}
	spool, err := os.CreateTemp(filepath.Dir(f.Out), ".qrjump-rows-*") // 0600
	if err != nil {
		return nil, nil, fault("print_rows.a_temporary_file_for_shuffle", err)
	}
	// The spool file is unlinked immediately where the operating system allows this, so that an interruption leaves no codes on disk.
	_ = os.Remove(spool.Name())
	return src.limitRows(labels.Shuffled(spool, src.rows(ctx, src.fullRange().From), src.inRange(), f.Shuffle, n)), func() {
		_ = spool.Close()
		_ = os.Remove(spool.Name())
	}, nil
}

// limitRows returns the rows to print: all, or the first src.most if src.most is not 0.
func (src *rowSource) limitRows(all iter.Seq2[labels.Row, error]) iter.Seq2[labels.Row, error] {
	if src.most == 0 {
		return all
	}
	return func(yield func(labels.Row, error) bool) {
		left := src.count()
		for r, err := range all {
			if left == 0 || !yield(r, err) {
				return
			}
			left--
		}
	}
}
