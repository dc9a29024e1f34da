package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// UpdateStatistics implements stats.Store.
func (s *Store) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.statistics()) })
}

// ViewStatistics implements stats.Store.
func (s *Store) ViewStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.statistics()) })
}

func (t statisticsQueries) LockStatistics(ctx context.Context) error {
	return t.lock(ctx, "statistics", "")
}

// stateRows maps the only row of statistics_state, whose id is 1.
var stateRows = mapper[stats.State]{table: "statistics_state", key: "id",
	columns: "id, scan_log, counted_offset, checkpoint, last_scan_id, last_scan_at, scans, kept_count, missing_count, sketch_offset, " +
		"utc_offset_hours, retention_floor, zone_changed_at, rollup_month, rollup_cursor, oldest_hour, oldest_day, zone_change_day",
	targets: func(s *stats.State) []any {
		return []any{new(1), &s.LogID, &s.CountedOffset, &s.Checkpoint, &s.LastScanID, moment{&s.LastScanAt}, &s.Scans, &s.KeptCount,
			&s.MissingCount, &s.SketchOffset, &s.Offset, moment{&s.RetentionFloor}, moment{&s.ZoneChangedAt}, &s.RollupMonth,
			&s.RollupCursor, &s.OldestHour, &s.OldestDay, &s.ZoneChangeDay}
	}}

func (t statisticsQueries) StatisticsState(ctx context.Context) (stats.State, error) {
	s, err := stateRows.find(ctx, t.Tx, `id = 1`)
	return s, replaceNoRows(err, nil)
}

func (t statisticsQueries) PutStatisticsState(ctx context.Context, s stats.State) error {
	return stateRows.put(ctx, t.Tx, s)
}

// tupleColumns lists the columns of all dimensions except the rule.
const tupleColumns = `activity, brand, product, batch, app, source, result, region`

func tupleArgs(args []any, t *stats.Tuple) []any {
	return append(args, t.Activity, t.Brand, t.Product, t.Batch, t.App, t.Source, t.Result, t.Region)
}

func tupleInto(t *stats.Tuple) []any {
	return []any{&t.Activity, &t.Brand, &t.Product, &t.Batch, &t.App, &t.Source, &t.Result, &t.Region}
}

func (t statisticsQueries) NameTuples(ctx context.Context, list []stats.Tuple) error {
	return t.insertMany(ctx, `INSERT INTO statistics_tuples (id, `+tupleColumns+`)`, ` ON CONFLICT (id) DO NOTHING`, 9, len(list),
		func(i int, args []any) []any {
			return tupleArgs(append(args, list[i].ID()), &list[i])
		})
}

var (
	countRows = mapper[stats.CountRow]{table: "statistics_counts", key: "granularity, bucket, rule, tuple",
		columns: "granularity, bucket, rule, tuple, scans, first_scans",
		targets: func(r *stats.CountRow) []any {
			return []any{&r.Granularity, &r.Bucket, &r.Rule, &r.Tuple, &r.Scans, &r.FirstScans}
		}}
	sumRows = mapper[stats.SumRow]{table: "statistics_sums", key: "granularity, dimension, bucket, value",
		columns: "granularity, dimension, bucket, value, scans, first_scans",
		targets: func(r *stats.SumRow) []any {
			return []any{&r.Granularity, &r.Dimension, &r.Bucket, &r.Value, &r.Scans, &r.FirstScans}
		}}
	missRows = mapper[stats.UnmatchedRow]{table: "statistics_unmatched", key: "granularity, bucket, location",
		columns: "granularity, bucket, location, scans",
		targets: func(r *stats.UnmatchedRow) []any { return []any{&r.Granularity, &r.Bucket, &r.Location, &r.Scans} }}
)

func (t statisticsQueries) AddScanCounts(ctx context.Context, list []stats.CountRow) error {
	return countRows.addAll(ctx, t.Tx, list, countRows.adding("scans", "first_scans"))
}

func (t statisticsQueries) AddSums(ctx context.Context, list []stats.SumRow) error {
	return sumRows.addAll(ctx, t.Tx, list, sumRows.adding("scans", "first_scans"))
}

var codeCountRows = mapper[alarms.Row]{table: "code_counts", key: "batch, idx",
	columns: "batch, idx, scans, users, first_at, last_at, score, first_score, state, since_dismissal",
	targets: func(r *alarms.Row) []any {
		return []any{&r.Batch, &r.Index, &r.Scans, &r.Users, moment{&r.FirstAt}, moment{&r.LastAt}, &r.Score, &r.FirstScore, &r.State,
			&r.SinceDismissal}
	}}

// scanCodeJudged reads the columns of codeCountRows and the time at which an alarm of the code was last dismissed.
var scanCodeJudged = scanner(func(r *alarms.Row) []any { return append(codeCountRows.targets(r), moment{&r.Dismissed}) })

const lastDismissed = `COALESCE((SELECT MAX(dismissed_at) FROM alarms WHERE alarms.batch = code_counts.batch
	AND alarms.idx = code_counts.idx AND kind <> '` + alarms.Spoiled + `'), 0)`

func (t alarmQueries) Codes(ctx context.Context, names []alarms.CodeName) (map[alarms.CodeName]alarms.Row, error) {
	indexes := map[int64][]any{}
	for _, name := range names {
		indexes[name.Batch] = append(indexes[name.Batch], name.Index)
	}
	all := make(map[alarms.CodeName]alarms.Row, len(names))
	for batch, index := range indexes {
		found, err := listChunks(ctx, t.Tx, scanCodeJudged, slices.Chunk(index, t.argumentsAtOnce()/2), func(vs []any) (string, []any) {
			return `SELECT ` + codeCountRows.columns + `, ` + lastDismissed + ` FROM code_counts WHERE batch = $1 AND idx IN (` +
				t.marks(2, len(vs)) + `)`, append([]any{batch}, vs...)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			all[r.CodeName] = r
		}
	}
	return all, nil
}

func (t alarmQueries) PutCodes(ctx context.Context, rows []alarms.Row) error {
	return codeCountRows.putAll(ctx, t.Tx, rows)
}

var usersRows = mapper[stats.UsersRow]{table: "statistics_users", key: "dimension, day, value",
	columns: "day, dimension, value, users, sketch, erased",
	targets: func(r *stats.UsersRow) []any {
		return []any{&r.Day, &r.Dimension, &r.Value, &r.Users, &r.Sketch, &r.Erased}
	}}

func (t statisticsQueries) UsersRows(ctx context.Context, keys []stats.UsersKey) (map[stats.UsersKey]stats.UsersRow, error) {
	type group struct {
		dim stats.Dimension
		day int64
	}
	grouped := map[group][]any{}
	for _, k := range keys {
		g := group{k.Dimension, k.Day}
		grouped[g] = append(grouped[g], k.Value)
	}
	all := make(map[stats.UsersKey]stats.UsersRow, len(keys))
	for g, vs := range grouped {
		read := func(scan func(func(...any) error) (stats.UsersRow, error), query string, values []any) ([]stats.UsersRow, error) {
			return listChunks(ctx, t.Tx, scan, slices.Chunk(values, t.argumentsAtOnce()/2), func(items []any) (string, []any) {
				return query + ` WHERE dimension = $1 AND day = $2 AND value IN (` + t.marks(3, len(items)) + `)`,
					append([]any{int64(g.dim), g.day}, items...)
			})
		}
		found, err := read(usersRows.scan, usersRows.query(``), vs)
		if err != nil {
			return nil, err
		}
		var large []any
		for _, r := range found {
			if all[r.UsersKey] = r; r.Large() {
				large = append(large, r.Value)
			}
		}
		deltas, err := read(scanUsersSince, `SELECT `+sinceColumns+` FROM statistics_user_deltas`, large)
		if err != nil {
			return nil, err
		}
		for _, r := range deltas {
			row := all[r.UsersKey]
			row.Since = append(row.Since, r.Since...)
			all[r.UsersKey] = row
		}
	}
	return all, nil
}

const sinceColumns = `day, dimension, value, sketch`

var scanUsersSince = scanner(func(r *stats.UsersRow) []any {
	r.Since = []string{""}
	return []any{&r.Day, &r.Dimension, &r.Value, &r.Since[0]}
})

func (t statisticsQueries) AddUsers(ctx context.Context, rows []stats.UsersSince) error {
	return t.insertMany(ctx, `INSERT INTO statistics_user_deltas (dimension, day, value, part, sketch)`, ``, 5, len(rows),
		func(i int, args []any) []any {
			r := &rows[i]
			return append(args, int64(r.Dimension), r.Day, r.Value, int64(r.Number), r.Sketch)
		})
}

func (t statisticsQueries) PutUsers(ctx context.Context, rows []stats.UsersRow) error {
	for i := range rows {
		if r := &rows[i]; r.Since != nil {
			const query = `DELETE FROM statistics_user_deltas WHERE dimension = $1 AND day = $2 AND value = $3`
			if err := t.run(ctx, query, int64(r.Dimension), r.Day, r.Value); err != nil {
				return err
			}
		}
	}
	return usersRows.putAll(ctx, t.Tx, rows)
}

func (t statisticsQueries) Places(ctx context.Context, day int64, limit int) ([]string, error) {
	return list(ctx, t.Tx, scanText,
		`SELECT location FROM statistics_unmatched WHERE granularity = 1 AND bucket = $1 ORDER BY location LIMIT $2`, day, limit)
}

func (t statisticsQueries) AddMisses(ctx context.Context, rows []stats.UnmatchedRow) error {
	return missRows.addAll(ctx, t.Tx, rows, missRows.adding("scans"))
}

func (t statisticsQueries) RecallLedger(ctx context.Context, ledger string) (l stats.LogCheckpoint, err error) {
	err = t.row(ctx, `SELECT counted_offset, sketch_offset, webhook_offset, last_scan_id FROM scan_logs WHERE id = $1`, ledger).
		Scan(&l.Position, &l.Users, &l.WebhookOffset, &l.Last)
	if errors.Is(err, sql.ErrNoRows) {
		return stats.LogCheckpoint{Users: -1, WebhookOffset: -1}, nil
	}
	return l, err
}

// rememberLedger records the positions up to which the scans and the users of a scan log were counted, before another log is counted.
func (t statisticsQueries) rememberLedger(ctx context.Context, ledger string, position, users int64) error {
	return t.run(ctx, `INSERT INTO scan_logs (id, is_local, counted_offset, last_scan_id, sketch_offset) VALUES ($1, 0, $2, '', $3)
		ON CONFLICT (id) DO UPDATE SET counted_offset = excluded.counted_offset, sketch_offset = excluded.sketch_offset`, ledger, position, users)
}

func (t statisticsQueries) TurnReaders(ctx context.Context, left stats.State, to string, position int64, shared bool) error {
	if err := t.webhooks().LockReader(ctx, webhooks.ScanSource); err != nil {
		return err
	}
	if left.LogID != "" {
		if err := t.rememberLedger(ctx, left.LogID, left.CountedOffset, left.SketchOffset); err != nil {
			return err
		}
	}
	if !shared {
		turned := func(previous string) string {
			return `CASE WHEN ` + previous + ` >= $1 THEN $2 WHEN $2 > $1 - ` + previous + ` THEN $2 - ($1 - ` + previous + `) ELSE 0 END`
		}
		return t.runAll(ctx, write(`UPDATE webhook_readers SET checkpoint = '`+webhooks.Unmarked+`', read_offset = `+turned(`read_offset`)+
			` WHERE name = $3`, left.CountedOffset, position, webhooks.ScanSource),
			write(`UPDATE webhooks SET first_scan_offset = `+turned(`first_scan_offset`), left.CountedOffset, position))
	}
	const reader, known = ` FROM webhook_readers WHERE name = $2)`, ` FROM scan_logs WHERE id = $2 AND webhook_offset >= 0), `
	return t.runAll(ctx,
		write(`UPDATE scan_logs SET webhook_offset = (SELECT read_offset`+reader+`,
			checkpoint = (SELECT checkpoint`+reader+` WHERE id = $1`, left.LogID, webhooks.ScanSource),
		write(`UPDATE webhook_readers SET read_offset = COALESCE((SELECT webhook_offset`+known+`$1),
			checkpoint = COALESCE((SELECT scan_logs.checkpoint`+known+`'`+webhooks.Unmarked+`') WHERE name = $3`,
			position, to, webhooks.ScanSource),
		// first_scan_offset is a position in the scan log that was counted before, so it does not apply to the new scan log.
		write(`UPDATE webhooks SET first_scan_offset = 0`))
}

// LeaveStream prepares the change from a stream, whose scans were counted until now, to the given journal. The parameter last is the last
// scan that this server shipped to the stream; the journal's scans up to it are considered counted and delivered to webhooks.
func (s *Store) LeaveStream(ctx context.Context, journal string, last scanlog.Offset) error {
	return s.update(ctx, func(tx *Tx) error {
		state, err := tx.statistics().StatisticsState(ctx)
		if err != nil || state.LogID == "" || state.LogID == journal {
			return err
		}
		if _, err = tx.exec(ctx, `INSERT INTO scan_logs (id, is_local, counted_offset, last_scan_id) VALUES ($1, 0, $2, $3)
			ON CONFLICT (id) DO UPDATE SET counted_offset = excluded.counted_offset, last_scan_id = excluded.last_scan_id`, state.LogID, state.CountedOffset,
			last.ID.String()); err != nil {
			return err
		}
		if err := tx.statistics().rememberLedger(ctx, journal, last.Position, -1); err != nil {
			return err
		}
		return tx.run(ctx, `UPDATE webhook_readers SET read_offset = $1, checkpoint = '' WHERE name = $2 AND read_offset < $1`, state.CountedOffset,
			webhooks.ScanSource)
	})
}

func (t statisticsQueries) Origins(ctx context.Context) (map[string]*scanlog.OffsetSet, error) {
	return t.offsetSets(ctx, `aggregation_offsets`)
}

// everyJournal is the key of a marker row in webhook_offsets that belongs to no node. If the marker exists, a journal without a row in
// webhook_offsets has no scan that was delivered to webhooks.
const everyJournal = ""

func (t webhookQueries) ReportedSets(ctx context.Context) (sets map[string]*scanlog.OffsetSet, all bool, err error) {
	sets, err = t.statistics().offsetSets(ctx, `webhook_offsets`)
	all = sets[everyJournal] != nil
	delete(sets, everyJournal)
	return sets, all, err
}

// offsetSets reads the counted events of each journal from aggregation_offsets, or the delivered events from webhook_offsets.
func (t statisticsQueries) offsetSets(ctx context.Context, table string) (map[string]*scanlog.OffsetSet, error) {
	all := map[string]*scanlog.OffsetSet{}
	_, err := list(ctx, t.Tx, func(scan func(...any) error) (n struct{}, err error) {
		var node, text string
		var upTo int64
		if err = scan(&node, &upTo, &text); err == nil {
			all[node], err = scanlog.DecodeTaken(upTo, text)
		}
		return n, err
	}, `SELECT node, contiguous_to, extra FROM `+table)
	return all, err
}

func (t statisticsQueries) PutOrigins(ctx context.Context, sets map[string]*scanlog.OffsetSet) error {
	return t.putOffsetSets(ctx, `aggregation_offsets`, sets)
}

func (t webhookQueries) PutQueuedOffsets(ctx context.Context, sets map[string]*scanlog.OffsetSet) error {
	return t.statistics().putOffsetSets(ctx, `webhook_offsets`, sets)
}

func (t statisticsQueries) putOffsetSets(ctx context.Context, table string, sets map[string]*scanlog.OffsetSet) error {
	return forEach(slices.Values(slices.Sorted(maps.Keys(sets))), func(node string) error {
		text, err := sets[node].Encode()
		if err != nil {
			return err
		}
		return t.run(ctx, `INSERT INTO `+table+` (node, contiguous_to, extra) VALUES ($1, $2, $3)
			ON CONFLICT (node) DO UPDATE SET contiguous_to = excluded.contiguous_to, extra = excluded.extra`,
			node, sets[node].ContiguousTo, text)
	})
}

// BeginOrigin records that a journal's events up to upTo are counted and delivered to webhooks, unless the journal already has a row.
func (s *Store) BeginOrigin(ctx context.Context, node string, upTo int64) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, `INSERT INTO aggregation_offsets (node, contiguous_to, extra) VALUES ($1, $2, '') ON CONFLICT (node) DO NOTHING`, node,
			upTo)
		if err != nil || n == 0 {
			return err
		}
		return tx.run(ctx, `INSERT INTO webhook_offsets (node, contiguous_to, extra) SELECT node, contiguous_to, extra FROM aggregation_offsets
			WHERE node = $1 AND EXISTS (SELECT 1 FROM webhook_offsets WHERE node = '`+everyJournal+`') ON CONFLICT (node) DO NOTHING`, node)
	})
}

// Origin returns which events of a journal are counted; none if the journal is unknown.
func (s *Store) Origin(ctx context.Context, node string) (*scanlog.OffsetSet, error) {
	all, err := viewed(ctx, s, func(tx *Tx) (map[string]*scanlog.OffsetSet, error) { return tx.statistics().Origins(ctx) })
	if all[node] == nil {
		return &scanlog.OffsetSet{}, err
	}
	return all[node], err
}

// ReportedSet returns which events of a journal were delivered to webhooks; nil if no webhook wants scans, or the journal is unknown.
func (s *Store) ReportedSet(ctx context.Context, node string) (told *scanlog.OffsetSet, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		told = nil
		hooks, err := tx.webhooks().Webhooks(ctx)
		if err != nil || !slices.ContainsFunc(hooks, webhooks.Webhook.WantsScans) {
			return err
		}
		sets, all, err := tx.webhooks().ReportedSets(ctx)
		if told = sets[node]; told == nil && all {
			told = &scanlog.OffsetSet{}
		}
		return err
	})
	return told, err
}

// CountedUpTo returns the position of the last counted scan in the scan log that is currently counted.
func (s *Store) CountedUpTo(ctx context.Context) (position int64, err error) {
	state, err := viewed(ctx, s, func(tx *Tx) (stats.State, error) { return tx.statistics().StatisticsState(ctx) })
	return state.CountedOffset, err
}

// Counting returns the id of the scan log that is counted; "" = nothing counted yet.
func (s *Store) Counting(ctx context.Context) (string, error) {
	return viewed(ctx, s, func(tx *Tx) (string, error) { return tx.webhooks().Counting(ctx) })
}

func (t statisticsQueries) RewindReaders(ctx context.Context, end int64) error {
	return t.runAll(ctx, write(`UPDATE webhook_readers SET checkpoint = '`+webhooks.Unmarked+`',
		read_offset = CASE WHEN read_offset > $1 THEN $1 ELSE read_offset END WHERE name = $2`, end, webhooks.ScanSource),
		write(`UPDATE webhooks SET first_scan_offset = $1 WHERE first_scan_offset > $1`, end))
}

func (t statisticsQueries) ForgetUsers(ctx context.Context) error {
	return t.runAll(ctx, write(`DELETE FROM statistics_user_deltas`), write(`DELETE FROM statistics_users`))
}

func (t statisticsQueries) Binding(ctx context.Context, activation int64) (codes.Binding, error) {
	var b bindingRecord
	err := t.row(ctx, `SELECT binding FROM code_events WHERE seq = $1`, activation).Scan(inJSON(&b))
	return codes.Binding(b), replaceNoRows(err, stats.ErrNoActivation)
}

// queryEach calls yield with the result of scan for each row.
func queryEach[T any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), yield func(T) error, query string,
	args ...any) error {
	return t.patiently(func() error {
		rows, err := t.query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			item, err := scan(rows.Scan)
			if err == nil {
				err = yield(item)
			}
			if err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func (t statisticsQueries) AllTuples(ctx context.Context, spans []stats.Span, yield func(stats.TupleRow) error) error {
	scan := scanner(func(r *stats.TupleRow) []any {
		return append(tupleInto(&r.Tuple), &r.Rule, &r.Granularity, &r.Bucket, &r.Scans, &r.FirstScans)
	})
	return forEach(slices.Values(spans), func(span stats.Span) error {
		return queryEach(ctx, t.Tx, scan, yield, `SELECT `+tupleColumns+`, rule, granularity, bucket, scans, first_scans
			FROM statistics_counts c JOIN statistics_tuples u ON u.id = c.tuple
			WHERE granularity = $1 AND bucket >= $2 AND bucket < $3`, int64(span.Granularity), span.From, span.To)
	})
}

func (t statisticsQueries) AllSums(ctx context.Context, spans []stats.Span, yield func(stats.SumRow) error) error {
	query := sumRows.query(`WHERE granularity = $1 AND dimension = $2 AND bucket >= $3 AND bucket < $4`)
	return forEach(slices.Values(spans), func(span stats.Span) error {
		return forEach(slices.Values(stats.AllDims()), func(dim stats.Dimension) error {
			return queryEach(ctx, t.Tx, sumRows.scan, yield, query, int64(span.Granularity), int64(dim), span.From, span.To)
		})
	})
}

func (t statisticsQueries) AllUsers(ctx context.Context, days stats.Span, yield func(stats.UsersRow) error) error {
	// One query per dimension, because dimension is the first column of the primary key.
	return forEach(slices.Values(stats.AllDims()), func(dim stats.Dimension) error { return t.usersOf(ctx, dim, days, "", nil, yield) })
}

// usersOf calls yield with the delta rows of the days and then with the main rows; a delta row contains users added after its main row.
func (t statisticsQueries) usersOf(ctx context.Context, dim stats.Dimension, days stats.Span, text string, value []any,
	yield func(stats.UsersRow) error) error {
	location := ` WHERE dimension = $1 AND day >= $2 AND day < $3` + text
	args := append([]any{int64(dim), days.From, days.To}, value...)
	if err := queryEach(ctx, t.Tx, scanUsersSince, yield, `SELECT `+sinceColumns+` FROM statistics_user_deltas`+location,
		args...); err != nil {
		return err
	}
	return queryEach(ctx, t.Tx, usersRows.scan, yield, usersRows.query(location), args...)
}

func (t statisticsQueries) AllMisses(ctx context.Context, of stats.Span, yield func(stats.UnmatchedRow) error) error {
	return queryEach(ctx, t.Tx, missRows.scan, yield, missRows.query(`WHERE granularity = $1 AND bucket >= $2 AND bucket < $3`),
		int64(of.Granularity), of.From, of.To)
}

func (t alarmQueries) AllCodes(ctx context.Context, from, to alarms.CodeName, yield func(alarms.Row) error) error {
	return queryEach(ctx, t.Tx, codeCountRows.scan, yield,
		codeCountRows.query(`WHERE (batch, idx) >= ($1, $2) AND (batch, idx) < ($3, $4)`), from.Batch, from.Index, to.Batch, to.Index)
}
