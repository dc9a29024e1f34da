package adminapi

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// tableKinds maps table formats to content types.
var tableKinds = map[string]string{"csv": "text/csv; charset=utf-8", "parquet": parquetType}

// rowsAtOnce is the maximum number of rows of a Parquet row group; the limit bounds the memory of an export.
const rowsAtOnce = 20_000

// alarmsAtOnce is the number of alarms that an export reads at once.
const alarmsAtOnce = 1000

// visitor calls a function for each row of a table, until the function returns an error.
type visitor[Row any] func(context.Context, func(Row) error) error

// tableFile returns a file to which rows are written as they are read. The columns are the fields of a row, named by their Parquet tags.
func tableFile[Row any](name string, format client.TableFormat, rows visitor[Row]) adminroute.File {
	return adminroute.File{Name: name + "." + format.Format, Type: tableKinds[format.Format],
		Write: func(ctx context.Context, w io.Writer) error {
			if format.Format == "parquet" {
				return writeParquet(ctx, w, rows)
			}
			return writeCSV(ctx, w, rows)
		}}
}

// collected reads all rows before it visits the first row, so that a read error is returned before any row.
func collected[Row any](read func(context.Context) ([]Row, error)) visitor[Row] {
	return func(ctx context.Context, visit func(Row) error) error {
		list, err := read(ctx)
		for i := 0; i < len(list) && err == nil; i++ {
			err = visit(list[i])
		}
		return err
	}
}

// writeCSV writes a header line with the column names, followed by the rows. If a row type has a method tidy, the method can change
// the cells of a line.
func writeCSV[Row any](ctx context.Context, w io.Writer, rows visitor[Row]) error {
	out := csv.NewWriter(w)
	var line []string
	for field := range reflect.TypeFor[Row]().Fields() {
		column, _, _ := strings.Cut(field.Tag.Get("parquet"), ",")
		line = append(line, column)
	}
	_ = out.Write(line) // out.Error reports it
	err := rows(ctx, func(row Row) error {
		line = line[:0]
		for _, value := range reflect.ValueOf(row).Fields() {
			line = append(line, cell(value.Interface()))
		}
		if v, is := any(row).(interface{ tidy(line []string) }); is {
			v.tidy(line)
		}
		return out.Write(line)
	})
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

func writeParquet[Row any](ctx context.Context, w io.Writer, rows visitor[Row]) error {
	out := parquet.NewGenericWriter[Row](w, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowsAtOnce))
	var group []Row
	flush := func() error {
		_, err := out.Write(group)
		group = group[:0]
		if err == nil {
			err = out.Flush()
		}
		return err
	}
	err := rows(ctx, func(row Row) error {
		if group = append(group, row); len(group) < rowsAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return errors.Join(flush(), out.Close())
}

// cell returns a value formatted as a CSV cell.
func cell(value any) string {
	switch value := value.(type) {
	case *time.Time:
		if value == nil {
			return ""
		}
		return value.Format(time.RFC3339)
	case *int64:
		if value == nil {
			return ""
		}
		return strconv.FormatInt(*value, 10)
	case time.Time:
		return value.Format(time.RFC3339)
	case string:
		return adminroute.EscapeCSVFormula(value)
	}
	return fmt.Sprint(value)
}

// numberRow, missRow and alarmRow are rows of exported files. The column names of the exported file equal the JSON names of the fields.
type numberRow struct {
	At    *time.Time `parquet:"starts_at,optional,timestamp(millisecond)"`
	Value string     `parquet:"value"`
	Scans *int64     `parquet:"scans,optional"`
	First *int64     `parquet:"first_scans,optional"`
	Users *int64     `parquet:"users,optional"`
}

type missRow struct {
	Place string `parquet:"location"`
	Scans int64  `parquet:"scans"`
}

type alarmRow struct {
	ID            int64      `parquet:"id"`
	Kind          string     `parquet:"kind"`
	ApplicationID int64      `parquet:"application_id"`
	CodeIndex     int64      `parquet:"code_index"`
	At            time.Time  `parquet:"created_at,timestamp(millisecond)"`
	ScanID        string     `parquet:"scan_id"`
	Score         int64      `parquet:"score"`
	Reasons       string     `parquet:"reasons"`
	SeenAt        *time.Time `parquet:"acknowledged_at,optional,timestamp(millisecond)"`
	SeenBy        string     `parquet:"acknowledged_by"`
	State         string     `parquet:"state"`
	ConfirmedAt   *time.Time `parquet:"confirmed_at,optional,timestamp(millisecond)"`
	ConfirmedBy   string     `parquet:"confirmed_by"`
	DismissedAt   *time.Time `parquet:"dismissed_at,optional,timestamp(millisecond)"`
	DismissedBy   string     `parquet:"dismissed_by"`
	Note          string     `parquet:"note"`
	Case          int64      `parquet:"case"`
	CaseTitle     string     `parquet:"case_title"`
	Assignee      string     `parquet:"assignee"`
}

func (a scanAPI) exportStatistics(ctx context.Context, in *struct {
	client.TableFormat
	StatisticsQuestion
}) (adminroute.File, error) {
	if _, err := owners(ctx, in.Owner); err != nil {
		return adminroute.File{}, err
	}
	return tableFile("qrjump-statistics", in.TableFormat, collected(func(ctx context.Context) ([]numberRow, error) {
		q, err := a.question(ctx, &in.StatisticsQuestion)
		if err != nil {
			return nil, err
		}
		q.Limit = stats.MaxAnswers // one query, because the counts may change between two queries
		found, err := a.Scans.Execute(ctx, q)
		if err == nil && found.More {
			err = refused("the table has more than %d rows: choose a shorter period or a filter", q.Limit)
		}
		return mapped(showAnswers(q, found).Rows, func(r statisticsRow) numberRow {
			return numberRow{r.StartsAt, r.Value, r.Scans, r.FirstScans, r.Users}
		}), err
	})), nil
}

func (a scanAPI) exportUnmatched(ctx context.Context, in *struct {
	client.TableFormat
	UnmatchedFilter
}) (adminroute.File, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return adminroute.File{}, err
	}
	return tableFile("qrjump-misses", in.TableFormat, collected(func(ctx context.Context) ([]missRow, error) {
		from, to, err := a.counted(ctx, in.Period)
		if err != nil {
			return nil, err
		}
		list, err := a.Scans.UnmatchedRows(ctx, accountIDs, in.Below, from, to)
		return mapped(list, func(m stats.Answer) missRow { return missRow{m.Value, m.Scans} }), err
	})), nil
}

func (a scanAPI) exportAlarms(ctx context.Context, in *struct {
	client.TableFormat
	client.AlarmExport
}) (adminroute.File, error) {
	q, err := alarmQuery(ctx, in.AlarmQuery)
	if err != nil {
		return adminroute.File{}, err
	}
	language, _ := i18n.Parse(in.Language)
	return tableFile("qrjump-alarms", in.TableFormat, collected(func(ctx context.Context) (rows []alarmRow, err error) {
		q := q
		q.Newest = false // pages are read in ascending order of alarm number
		for q.Limit = cmp.Or(in.Limit, alarmsAtOnce); ; q.After = rows[len(rows)-1].ID {
			list, err := a.Alarms.Alarms(ctx, q)
			if err != nil {
				return nil, err
			}
			for _, item := range list {
				group := caseOf(ctx, item)
				reasons := mapped(item.Reasons(), func(t i18n.Message) string { return t.In(language) })
				rows = append(rows, alarmRow{item.ID, string(item.Kind), item.Batch, item.CodeIndex(), item.CreatedAt, item.Scan,
					item.Score, i18n.Sentences(language, reasons), optional(item.AcknowledgedAt), item.AcknowledgedBy, item.State(),
					optional(item.ConfirmedAt), item.ConfirmedBy, optional(item.DismissedAt), item.DismissedBy, item.Note,
					group.ID, group.Title, group.Assignee})
			}
			if len(list) < q.Limit || in.Limit > 0 || q.State == alarms.StateWatch {
				return rows, nil
			}
		}
	})), nil
}
