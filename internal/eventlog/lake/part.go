package lake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// Row is a scan as stored in the lake. A field that a scan does not have is NULL. No column name is a reserved word of an SQL engine.
type Row struct {
	ScanID        string    `parquet:"scan_id"`
	ScannedAt     time.Time `parquet:"scanned_at,timestamp(millisecond)"`
	UserHash      string    `parquet:"user_hash,optional,dict"`
	Source        string    `parquet:"source,optional,dict"`
	Client        string    `parquet:"client,optional,dict"`
	Network       string    `parquet:"network,optional,dict"`
	Region        string    `parquet:"region,optional,dict"`
	Action        string    `parquet:"action,optional,dict"`
	Kind          string    `parquet:"kind,optional,dict"`
	Reason        string    `parquet:"reason,optional,dict"`
	AppID         string    `parquet:"appid,optional,dict"`
	Version       string    `parquet:"version,optional,dict"`
	RuleID        int64     `parquet:"rule_id,optional"`
	ApplicationID int64     `parquet:"application_id,optional"`
	CodeIndex     *int64    `parquet:"code_index,optional"`
	Activity      string    `parquet:"activity,optional,dict"`
	Brand         string    `parquet:"brand,optional,dict"`
	Product       string    `parquet:"product,optional,dict"`
	Text          string    `parquet:"text,optional"`
	Serial        string    `parquet:"serial,optional"`
	Owner         string    `parquet:"owner,optional,dict"`
}

// Placed is a row with its position in the journal.
type Placed struct {
	Position int64
	Row
}

// scanFile is one Parquet file of scans, also called a part. Only one node adds scans to a part. Until a part is full, a longer file
// atomically replaces it under the same name, so a program that lists the folder finds each scan once. The metadata of the file contains
// the journal position of its last scan.
type scanFile struct {
	name    string
	content []byte
	rows    int
	upTo    int64
}

const (
	scansFolder = "scans/"
	partSuffix  = ".parquet"
	upToKey     = "qrjump.position"
	// fullPart is the maximum number of scans in a file: 200,000 scans of codes take about 5 MB.
	fullPart = 200_000
	// rowGroup limits the memory used to write a part.
	rowGroup = 50_000
)

func partName(day, node string, first int64) string {
	return fmt.Sprintf("%s%s-%019d%s", dayFolder(day), "part-"+node, first, partSuffix)
}

func dayFolder(day string) string { return scansFolder + "date=" + day + "/" }

// readPartName returns the day and the node from the file name of a part; ok is false for other files.
func readPartName(name string) (day, node string, ok bool) {
	rest, ok := strings.CutPrefix(name, scansFolder+"date=")
	if !ok {
		return "", "", false
	}
	day, rest, ok = strings.Cut(rest, "/part-")
	rest, suffix := strings.CutSuffix(rest, partSuffix)
	pos := strings.LastIndexByte(rest, '-')
	if !ok || !suffix || pos < 0 {
		return "", "", false
	}
	return day, rest[:pos], true
}

// loadPart loads a part from a storage place.
func loadPart(ctx context.Context, from Place, name string) (*scanFile, error) {
	content, err := from.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, fmt.Errorf("%s in the lake cannot be read: %w", name, err)
	}
	text, _ := file.Lookup(upToKey)
	upTo, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s in the lake has no valid last offset: %w", name, err)
	}
	return &scanFile{name, content, int(file.NumRows()), upTo}, nil
}

// merged returns the part with additional rows; the function change may modify each existing row.
func (p *scanFile) merged(rows []Placed, change func(*Row) bool) (next *scanFile, changed bool, err error) {
	next = &scanFile{name: p.name, rows: p.rows + len(rows), upTo: p.upTo}
	if n := len(rows); n > 0 {
		next.upTo = rows[n-1].Position
	}
	var out bytes.Buffer
	out.Grow(len(p.content) + 64*len(rows))
	w := parquet.NewGenericWriter[Row](&out, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowGroup),
		parquet.BloomFilters(parquet.SplitBlockFilter(10, "user_hash")),
		parquet.KeyValueMetadata(upToKey, strconv.FormatInt(next.upTo, 10)))
	items := make([]Row, 0, 1000)
	write := func(row *Row) error {
		if items = append(items, *row); len(items) < cap(items) {
			return nil
		}
		_, err := w.Write(items)
		items = items[:0]
		return err
	}
	for had, err := range rowsOf[Row](p.name, p.content) {
		if err != nil {
			return nil, false, err
		}
		if change != nil && change(had) {
			changed = true
		}
		if err := write(had); err != nil {
			return nil, false, fmt.Errorf("writing %s: %w", p.name, err)
		}
	}
	for i := range rows {
		if err = write(&rows[i].Row); err != nil {
			break
		}
	}
	if err == nil {
		_, err = w.Write(items)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, false, fmt.Errorf("writing %s: %w", p.name, err)
	}
	next.content = out.Bytes()
	return next, changed, nil
}

// rowsOf yields the rows of a Parquet file, or the columns of them that T has; no content = no rows.
func rowsOf[T any](name string, content []byte) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		if content == nil {
			return
		}
		r := parquet.NewGenericReader[T](bytes.NewReader(content))
		defer r.Close()
		for {
			rows := make([]T, 1000)
			n, err := r.Read(rows)
			for i := range rows[:n] {
				if !yield(&rows[i], nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("reading %s: %w", name, err))
				return
			}
		}
	}
}

// mayHold reports whether, according to its Bloom filters, a Parquet file may contain one of the users with the given hashes.
func mayHold(ctx context.Context, from Place, name string, hashes []parquet.Value) (bool, error) {
	r, size, end, err := from.Open(ctx, name)
	if err != nil {
		return false, err
	}
	defer end.Close()
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true))
	if err != nil {
		return false, fmt.Errorf("%s in the lake cannot be read: %w", name, err)
	}
	column, ok := file.Schema().Lookup("user_hash")
	if !ok {
		return false, fmt.Errorf("%s in the lake has no column user_hash", name)
	}
	for _, group := range file.RowGroups() {
		filter := group.ColumnChunks()[column.ColumnIndex].BloomFilter()
		if filter == nil {
			return true, nil
		}
		for _, hash := range hashes {
			if has, err := filter.Check(hash); err != nil || has {
				return true, err
			}
		}
	}
	return false, nil
}
