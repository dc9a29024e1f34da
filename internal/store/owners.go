package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/stats"
)

func (t statisticsQueries) RuleOwners(ctx context.Context, from, to int64) (map[int64]string, error) {
	return pairs[int64, string](ctx, t.Tx, `SELECT id, owner FROM rules WHERE id >= $1 AND id < $2
		UNION SELECT seq, `+t.loggedOwner()+` FROM changes h WHERE seq >= $1 AND seq < $2 AND kind IN ('`+ofRule+`', '`+ofGS1+`')
			AND NOT EXISTS (SELECT 1 FROM rules WHERE id = seq)`, from, to)
}

// ruleOwner returns SQL for the owner of the rule or GS1 key whose number is in a column; NULL = unknown. The number of a rule is the
// sequence number of the change that added it, which stays in the audit log after the rule is deleted; for GS1 keys see gs1Number.
func (t statisticsQueries) ruleOwner(column string) string {
	return `COALESCE((SELECT r.owner FROM rules r WHERE r.id = ` + column + `),
		(SELECT ` + t.loggedOwner() + ` FROM changes h WHERE h.seq = ` + column + ` AND h.kind IN ('` + ofRule + `', '` + ofGS1 + `')))`
}

// loggedOwner returns SQL for the owner of the rule or GS1 key in a change h.
func (t statisticsQueries) loggedOwner() string {
	return `COALESCE(` + t.jsonField(`h.detail`, `owner`) + `, '')`
}

// countOwner returns SQL for the owner of the scans in a row c of statistics_counts: the owner of its rule or, if rule is 0, of its batch.
func (t statisticsQueries) countOwner() string {
	return `COALESCE(CASE WHEN c.rule <> 0 THEN ` + t.ruleOwner(`c.rule`) + `
		ELSE (SELECT b.account FROM statistics_tuples w JOIN batches b ON b.id = w.batch WHERE w.id = c.tuple) END, '')`
}

func (t statisticsQueries) RuleOwner(ctx context.Context, rule int64) (string, error) {
	var owner sql.NullString
	err := t.row(ctx, `SELECT `+t.ruleOwner(`$1`), rule).Scan(&owner)
	return owner.String, err
}

func (t statisticsQueries) NameOwners(ctx context.Context, names []string) error {
	return t.insertMany(ctx, `INSERT INTO statistics_owners (number, name)`, ` ON CONFLICT (number) DO NOTHING`, 2, len(names),
		func(i int, args []any) []any { return append(args, stats.OwnerNumber(names[i]), names[i]) })
}

func (t statisticsQueries) CountsByOwner(ctx context.Context, per stats.Granularity, pos int64) ([]stats.OwnedRow, error) {
	scan := scanner(func(r *stats.OwnedRow) []any { return []any{&r.Owner, &r.Tuple, &r.Scans, &r.FirstScans} })
	return list(ctx, t.Tx, scan, `SELECT owner, tuple, CAST(SUM(scans) AS BIGINT), CAST(SUM(first_scans) AS BIGINT) FROM (SELECT `+t.countOwner()+` AS owner, c.tuple AS tuple, c.scans AS scans, c.first_scans AS first_scans
			FROM statistics_counts c WHERE c.granularity = $1 AND c.bucket = $2) AS owned
		GROUP BY owner, tuple`, int64(per), pos)
}

// OwnersOfHosts implements stats.Tx. Each pair of a host and an owner is looked up by index, because a host may have a million rules.
func (t statisticsQueries) OwnersOfHosts(ctx context.Context, hosts []string) ([][2]string, error) {
	return listChunks(ctx, t.Tx, scanTwoTexts, slices.Chunk(hosts, t.argumentsAtOnce()/2), func(names []string) (string, []any) {
		return `WITH RECURSIVE hosts (host) AS (VALUES ` + t.rowMarks(len(names), 1) + `), found (host, owner) AS (
			SELECT h.host, (SELECT MIN(r.owner) FROM rules r WHERE r.host = h.host) FROM hosts h UNION ALL
			SELECT f.host, (SELECT MIN(r.owner) FROM rules r WHERE r.host = f.host AND r.owner > f.owner)
				FROM found f WHERE f.owner IS NOT NULL)
			SELECT host, owner FROM found WHERE owner IS NOT NULL`, appendArgs(nil, names)
	})
}

func (t statisticsQueries) ScansOfOwners(ctx context.Context, since int64) (map[string]int64, error) {
	return pairs[string, int64](ctx, t.Tx, `SELECT value, CAST(SUM(scans) AS BIGINT) FROM statistics_sums
		WHERE granularity = $1 AND dimension = $2 AND bucket >= $3 GROUP BY value`, int64(stats.PerDay), int64(stats.Owner), since)
}

func (t statisticsQueries) LastPublishes(ctx context.Context, owners []string) (map[string]int64, error) {
	query := `SELECT appid, COALESCE((SELECT MAX(hour) FROM publish_counts WHERE owner = appid), 0) FROM accounts`
	if len(owners) > 0 {
		query += ` WHERE appid IN (` + t.marks(1, len(owners)) + `)`
	}
	return pairs[string, int64](ctx, t.Tx, query, appendArgs(nil, owners)...)
}

// DaysOfRules implements stats.Tx. The IDs of rules in most lists are close to each other: then one range of each day is read, and rules
// without scans cost nothing. Otherwise each pair of a day and a rule is looked up by index.
func (t statisticsQueries) DaysOfRules(ctx context.Context, days, numbers []int64) ([]stats.DayCount[int64], error) {
	first, last := slices.Min(numbers), slices.Max(numbers)
	condition, args := `rule >= $2 AND rule <= $3`, []any{int64(stats.PerDay), first, last}
	if last-first > 4*int64(len(numbers)) {
		condition, args = `rule IN (`+placeholders(2, len(numbers))+`)`, appendArgs(args[:1], numbers)
	}
	found, err := daysOf[int64](ctx, t.Tx, `SELECT rule, bucket, CAST(SUM(scans) AS BIGINT) FROM statistics_counts
		WHERE granularity = $1 AND `+condition, ` GROUP BY rule, bucket`, args, days)
	return slices.DeleteFunc(found, func(c stats.DayCount[int64]) bool { return !slices.Contains(numbers, c.Key) }), err
}

// DaysOfOwners implements stats.Tx. Owners that never had scans are not in statistics_owners, so their days are not looked up.
func (t statisticsQueries) DaysOfOwners(ctx context.Context, days []int64, names []string) ([]stats.DayCount[string], error) {
	args := []any{int64(stats.PerDay), int64(stats.Owner)}
	for _, name := range names {
		args = append(args, stats.OwnerNumber(name))
	}
	return daysOf[string](ctx, t.Tx, `SELECT value, bucket, scans FROM statistics_sums WHERE granularity = $1 AND dimension = $2
		AND value IN (SELECT name FROM statistics_owners WHERE number IN (`+placeholders(3, len(names))+`))`, ``, args, days)
}

func daysOf[T comparable](ctx context.Context, t *Tx, query, tail string, args []any, days []int64) ([]stats.DayCount[T], error) {
	scan := scanner(func(c *stats.DayCount[T]) []any { return []any{&c.Key, &c.Bucket, &c.Scans} })
	return list(ctx, t, scan, query+` AND bucket IN (`+placeholders(len(args)+1, len(days))+`)`+tail, appendArgs(args, days)...)
}
