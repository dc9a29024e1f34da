package store

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// dimColumns maps dimensions to columns of statistics_tuples.
var dimColumns = map[stats.Dimension]string{stats.Activity: "activity", stats.Brand: "brand", stats.Product: "product",
	stats.Batch: "batch", stats.App: "app", stats.Source: "source", stats.Result: "result", stats.Region: "region"}

// in returns an SQL condition that a column has one of the given values.
func in(args *[]any, column string, values []any) string {
	*args = append(*args, values...)
	return column + ` IN (` + placeholders(len(*args)-len(values)+1, len(values)) + `)`
}

// filterValues returns the values of a dimension in the filter of a query; nil = any.
func filterValues(q stats.Query, dim stats.Dimension) (values []any) {
	if value, filtered := q.Filter[dim]; filtered {
		return []any{value}
	}
	if dim == stats.Owner {
		for _, owner := range q.Owners {
			values = append(values, owner)
		}
	}
	return values
}

var scanAnswer = scanner(func(a *stats.Answer) []any { return []any{&a.Bucket, &a.Value, &a.Scans, &a.FirstScans} })

// ordered returns the ORDER BY and LIMIT clauses for a statistics query.
func ordered(q stats.Query) string {
	largest := "scans"
	if q.Metric == stats.FirstScans {
		largest = "first_scans"
	}
	return ` ORDER BY bucket, ` + largest + ` DESC, value LIMIT ` + strconv.Itoa(q.Limit) + ` OFFSET ` + strconv.Itoa(q.Offset)
}

// bind appends an argument and returns its placeholder.
func bind(args *[]any, value any) string {
	*args = append(*args, value)
	return "$" + strconv.Itoa(len(*args))
}

func (t statisticsQueries) Sums(ctx context.Context, q stats.Query) ([]stats.Answer, error) {
	dim, _ := q.OnlyDimension()
	var args []any
	var parts []string
	for _, span := range q.Spans {
		per, subject := bind(&args, int64(span.Granularity)), bind(&args, int64(dim))
		from, to := bind(&args, span.From), bind(&args, span.To)
		values := filterValues(q, dim)
		if values == nil {
			parts = append(parts, `SELECT `+periodColumn(q.Interval, span.Granularity, `bucket`)+` AS bucket, value, scans, first_scans FROM statistics_sums
				WHERE granularity = `+per+` AND dimension = `+subject+` AND bucket >= `+from+` AND bucket < `+to)
			continue
		}
		// The query reads the total row of each hour or day, and then looks up the row of each wanted value in this hour or day. In
		// SQLite, CROSS JOIN keeps this join order.
		parts = append(parts, `SELECT `+periodColumn(q.Interval, span.Granularity,
			`s.bucket`)+` AS bucket, s.value AS value, s.scans AS scans, s.first_scans AS first_scans FROM statistics_sums a
			CROSS JOIN statistics_sums s WHERE a.granularity = `+per+` AND a.dimension = `+strconv.Itoa(int(stats.Total))+` AND a.bucket >= `+from+
			` AND a.bucket < `+to+` AND a.value = '' AND s.granularity = `+per+` AND s.dimension = `+subject+`
			AND s.bucket = a.bucket AND `+
			in(&args, `s.value`, values))
	}
	return t.sums(ctx, q, nil, parts, args)
}

// periodColumn returns SQL for the week or month of the day in a column, if the query groups by week or month; otherwise the column.
func periodColumn(interval stats.Interval, per stats.Granularity, location string) string {
	switch {
	case interval == stats.ByWeek: // as in timebucket.Week; SQL division truncates towards zero
		return `(` + location + ` + 7000000003) / 7 - 1000000000`
	case interval == stats.ByMonth && per == stats.PerDay:
		// As in timebucket.Month: 400 years have 146,097 days, and years begin in March.
		doe := `((` + location + ` + 719468) % 146097)`
		year := `((` + doe + ` - ` + doe + ` / 1460 + ` + doe + ` / 36524 - ` + doe + ` / 146096) / 365)`
		day := `(` + doe + ` - 365 * ` + year + ` - ` + year + ` / 4 + ` + year + ` / 100)`
		return `((` + location + ` + 719468) / 146097 * 400 + ` + year + ` - 1970) * 12 + (5 * ` + day + ` + 2) / 153 + 2`
	}
	return location
}

// fewTuples is the maximum number of combinations of dimension values whose rows are looked up one by one in each hour or day; for
// more combinations, all rows of the time span are read.
const fewTuples = 200

func (t statisticsQueries) Tuples(ctx context.Context, q stats.Query) ([]stats.Answer, error) {
	c := counting{Query: q}
	if !c.filter() {
		return []stats.Answer{}, nil
	}
	c.choose(t.countOwner())
	isFew, err := t.fewMatch(ctx, q, c.match, c.matched)
	if err != nil {
		return nil, err
	}
	var names, parts []string
	for i, span := range q.Spans {
		part := `SELECT ` + periodColumn(q.Interval, span.Granularity, `c.bucket`) + ` AS bucket, ` + c.value +
			` AS value, c.scans AS scans, c.first_scans AS first_scans FROM `
		if isFew {
			buckets := `buckets` + strconv.Itoa(i)
			hours, rows := c.eachPeriod(buckets, span)
			names = append(names, hours)
			part += rows
		} else {
			part += c.all(span)
		}
		if c.granularity == stats.PerHour && len(q.Owners) > 0 { // rows per rule do not contain the owner
			part += ` AND ` + in(&c.args, t.countOwner(), filterValues(q, stats.Owner))
		}
		parts = append(parts, part+strings.Join(c.where, ``))
	}
	return t.sums(ctx, q, names, parts, c.args)
}

// counting builds the SQL of a statistics query on statistics_counts, whose rows count scans per combination of dimension values.
type counting struct {
	stats.Query
	args, matched []any
	where         []string // SQL conditions on dimension values, with arguments in args; for another query, match and matched have the same
	match         []string
	rule          int64             // rule number; 0 = all rules
	granularity   stats.Granularity // granularity of the rows that are read: PerHourOfAll, PerHour (per rule) or PerHourOfOwner
	rules         []any             // wanted values of the column rule: rule or owner numbers
	value         string            // SQL expression to group by
	joined        bool              // the query joins statistics_tuples
}

// filter parses the filter values; it returns false if a value is invalid.
func (c *counting) filter() bool {
	for dim, wanted := range c.Filter {
		var value any = wanted
		if dim == stats.Rule || dim == stats.Batch {
			n, ok := numberOf(wanted)
			if !ok {
				return false
			}
			if dim == stats.Rule {
				c.rule = n
				continue
			}
			value = n
		}
		c.where = append(c.where, ` AND u.`+dimColumns[dim]+` = `+bind(&c.args, value))
		c.match = append(c.match, `u.`+dimColumns[dim]+` = `+bind(&c.matched, value))
	}
	return true
}

// choose sets the fields granularity, rules, value and joined: the rows to read, and the expression to group by.
func (c *counting) choose(ownerOfRule string) {
	_, ofRule := c.Filter[stats.Rule]
	c.granularity, c.value, c.joined, c.rules = stats.PerHourOfAll, `''`, len(c.where) > 0, []any{c.rule}
	switch {
	case ofRule || c.Group == stats.Rule:
		c.granularity = stats.PerHour
	case c.Group == stats.Owner || len(c.Owners) > 0:
		c.granularity, c.rules = stats.PerHourOfOwner, nil
		for _, owner := range c.Owners {
			c.rules = append(c.rules, stats.OwnerNumber(owner))
		}
	}
	switch c.Group {
	case stats.Total:
	case stats.Rule:
		c.value = numberText(`c.rule`)
	case stats.Batch:
		c.value, c.joined = numberText(`u.batch`), true
	case stats.Owner:
		if c.value = ownerOfRule; c.granularity != stats.PerHour {
			c.value = `COALESCE((SELECT o.name FROM statistics_owners o WHERE o.number = c.rule), '')`
		}
	default:
		c.value, c.joined = `u.`+dimColumns[c.Group], true
	}
}

// all returns SQL that reads all rows of a time span, for queries that need most of these rows.
func (c *counting) all(span stats.Span) string {
	rows := `statistics_counts c`
	if c.joined {
		rows += ` JOIN statistics_tuples u ON u.id = c.tuple`
	}
	return rows + ` WHERE c.granularity = ` + bind(&c.args, int64(c.granularity+span.Granularity)) + `
		AND c.bucket >= ` + bind(&c.args, span.From) + ` AND c.bucket < ` + bind(&c.args, span.To)
}

// eachPeriod returns SQL that lists the hours or days of a span that have rows, and SQL that looks up only the wanted rows in each
// hour or day. In SQLite, CROSS JOIN keeps this join order.
func (c *counting) eachPeriod(buckets string, span stats.Span) (hours, rows string) {
	per, from, to := bind(&c.args, int64(c.granularity+span.Granularity)), bind(&c.args, span.From), bind(&c.args, span.To)
	hours = buckets + `(bucket) AS (SELECT MIN(bucket) FROM statistics_counts WHERE granularity = ` + per + ` AND bucket >= ` + from + ` AND bucket < ` + to + `
			UNION ALL SELECT (SELECT MIN(n.bucket) FROM statistics_counts n WHERE n.granularity = ` + per + ` AND n.bucket > ` + buckets + `.bucket AND n.bucket < ` + to +
		`) FROM ` + buckets + ` WHERE ` + buckets + `.bucket IS NOT NULL)`
	_, ofRule := c.Filter[stats.Rule]
	switch named := ofRule || c.granularity == stats.PerHourOfOwner; {
	case named && c.joined:
		rows = buckets + ` CROSS JOIN statistics_counts c CROSS JOIN statistics_tuples u`
	case named:
		rows = buckets + ` CROSS JOIN statistics_counts c`
	default:
		rows = `statistics_tuples u CROSS JOIN ` + buckets + ` CROSS JOIN statistics_counts c`
	}
	rows += ` WHERE c.granularity = ` + per + ` AND c.bucket = ` + buckets + `.bucket AND ` + in(&c.args, `c.rule`, c.rules)
	if c.joined {
		rows += ` AND c.tuple = u.id`
	}
	return hours, rows
}

// fewMatch reports whether only few rows per hour or day match a query.
func (t statisticsQueries) fewMatch(ctx context.Context, q stats.Query, match []string, matched []any) (bool, error) {
	if _, ofRule := q.Filter[stats.Rule]; ofRule {
		return true, nil
	}
	if len(q.Owners) > 0 && q.Group != stats.Rule {
		return true, nil
	}
	if len(match) == 0 || q.Group == stats.Rule || q.Group == stats.Owner {
		return false, nil
	}
	var n int
	err := t.row(ctx, `SELECT COUNT(*) FROM (SELECT 1 AS one FROM statistics_tuples u WHERE `+strings.Join(match, ` AND `)+` LIMIT `+
		strconv.Itoa(fewTuples+1)+`) AS found`, matched...).Scan(&n)
	return n <= fewTuples, err
}

// numberOf parses the value of a numeric dimension: "" is 0; it returns false for an invalid number.
func numberOf(value string) (int64, bool) {
	if value == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil
}

// numberText returns SQL that formats the value of a numeric column as text, and 0 as the empty text.
func numberText(column string) string {
	return `CASE ` + column + ` WHEN 0 THEN '' ELSE CAST(` + column + ` AS TEXT) END`
}

// sums runs the UNION ALL of the subqueries in parts, and returns the sums of their scans per bucket and value.
func (t statisticsQueries) sums(ctx context.Context, q stats.Query, names, parts []string, args []any) ([]stats.Answer, error) {
	location, value := `0`, `''`
	var groups []string
	if q.Interval != stats.AllTime {
		location = `bucket`
		groups = append(groups, location)
	}
	if q.Group != stats.Total {
		value = `value`
		groups = append(groups, value)
	}
	query := `SELECT ` + location + ` AS bucket, ` + value +
		` AS value, CAST(SUM(scans) AS BIGINT) AS scans, CAST(SUM(first_scans) AS BIGINT) AS first_scans FROM (` +
		strings.Join(parts, ` UNION ALL `) + `) AS parts`
	if len(groups) > 0 {
		query += ` GROUP BY ` + strings.Join(groups, ", ")
	} else {
		query += ` HAVING COUNT(*) > 0`
	}
	// A query for the metric stats.FirstScans omits values that have no first scan.
	query = `SELECT bucket, value, scans, first_scans FROM (` + query + `) AS found`
	if q.Metric == stats.FirstScans {
		query += ` WHERE first_scans > 0`
	}
	if len(names) > 0 {
		query = `WITH RECURSIVE ` + strings.Join(names, `, `) + ` ` + query
	}
	return list(ctx, t.Tx, scanAnswer, query+ordered(q), args...)
}

func (t statisticsQueries) UsersOf(ctx context.Context, q stats.Query, yield func(stats.UsersRow) error) error {
	dim, _ := q.OnlyDimension()
	text, value := ``, filterValues(q, dim)
	if value != nil {
		text = ` AND value IN (` + t.marks(4, len(value)) + `)`
	}
	return forEach(slices.Values(q.Spans), func(days stats.Span) error {
		if days.Granularity == stats.PerMonth {
			days.From, days.To = days.From+stats.MonthSketches, days.To+stats.MonthSketches
		}
		return t.usersOf(ctx, dim, days, text, value, yield)
	})
}

func (t statisticsQueries) UnmatchedRows(ctx context.Context, from, to int64) ([]stats.Answer, error) {
	parts, args := unmatchedParts(from, to)
	return list(ctx, t.Tx, scanner(func(a *stats.Answer) []any { return []any{&a.Value, &a.Scans} }), `SELECT location, scans FROM (
			SELECT location, CAST(SUM(scans) AS BIGINT) AS scans FROM (`+parts+`) AS parts GROUP BY location) AS found
		ORDER BY scans DESC, location LIMIT $7`, append(args, stats.MaxMisses)...)
}

func (t statisticsQueries) UnmatchedTotal(ctx context.Context, from, to int64) (scans int64, err error) {
	parts, args := unmatchedParts(from, to)
	err = t.row(ctx, `SELECT CAST(COALESCE(SUM(scans), 0) AS BIGINT) FROM (`+parts+`) AS parts`, args...).Scan(&scans)
	return scans, err
}

// unmatchedParts returns SQL that selects the counts of unmatched scans in a half-open range of hours. Whole days are read from the counts
// of days.
func unmatchedParts(from, to int64) (query string, args []any) {
	first := min(timebucket.Day(from+23, 0), timebucket.Day(to, 0))
	last := max(first, timebucket.Day(to, 0))
	const part = `SELECT location, scans FROM statistics_unmatched WHERE granularity = `
	return part + `0 AND bucket >= $1 AND bucket < $2 UNION ALL ` + part + `1 AND bucket >= $3 AND bucket < $4 UNION ALL ` +
		part + `0 AND bucket >= $5 AND bucket < $6`, []any{from, max(from, first*24), first, last, max(from, last*24), to}
}
