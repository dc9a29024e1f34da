package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// Triggers (migrations/00109_first.sql) count the rules and publishes of each owner, in the transaction that changes them; rules.go reads
// these counts.

// countedRules and countedPublishes recompute the counts in rule_counts and publish_counts.
const (
	countedRules = `SELECT owner, '' AS target, COUNT(*) AS rules FROM rules GROUP BY owner
		UNION ALL SELECT owner, target, COUNT(*) FROM rules WHERE kind = 'service_rule' GROUP BY owner, target
		UNION ALL SELECT '', target, COUNT(*) FROM rules WHERE kind = 'service_rule' GROUP BY target`
	countedPublishes = `SELECT owner, CAST(created_at / 3600000 AS TEXT) AS hour, COUNT(*) AS publishes FROM publishes GROUP BY owner, created_at / 3600000`
)

// wrongPieces returns SQL that selects the rows of rule_page_buckets with a wrong rule count. The SQL condition in "pieces" selects the
// buckets to check. The SQL in "subject", which begins with AND, restricts the rules that a bucket counts.
func wrongPieces(pieces, subject string) string {
	return `SELECT owner, target, rules FROM (SELECT owner, target, first_id, rules,
			LEAD(first_id, 1, CAST(9223372036854775807 AS BIGINT)) OVER (PARTITION BY owner, target ORDER BY first_id) AS next
			FROM rule_page_buckets WHERE ` + pieces + `) AS p
		WHERE rules <> (SELECT COUNT(*) FROM rules AS r WHERE r.owner = p.owner AND r.id >= p.first_id AND r.id < p.next` + subject + `)`
}

// CheckCounts counts all rules and publishes again, and returns an error if a count that triggers have stored differs.
func (p *Snapshot) CheckCounts(ctx context.Context) error {
	missed := func(all, part string) string {
		return `SELECT * FROM (` + all + `) AS a EXCEPT SELECT * FROM (` + part + `) AS s`
	}
	const (
		rulesKept     = `SELECT owner, target, rules FROM rule_counts`
		publishesKept = `SELECT owner, CAST(hour AS TEXT) AS hour, publishes FROM publish_counts`
		inChunks      = `SELECT owner, target, CAST(SUM(rules) AS BIGINT) AS rules FROM rule_page_buckets GROUP BY owner, target`
		ofOwners      = rulesKept + ` WHERE owner <> ''`
	)
	for _, query := range []string{
		missed(countedRules, rulesKept), missed(rulesKept, countedRules),
		missed(countedPublishes, publishesKept), missed(publishesKept, countedPublishes),
		missed(ofOwners, inChunks), missed(inChunks, ofOwners),
		wrongPieces(`target = ''`, ``), wrongPieces(`target <> ''`, ` AND r.target = p.target AND r.kind = 'service_rule'`),
	} {
		var owner, subject string
		var n int64
		err := p.tx.patiently(func() error { return p.tx.row(ctx, query+` LIMIT 1`).Scan(&owner, &subject, &n) })
		switch {
		case err == nil:
			return fmt.Errorf("wrong stored counter of owner %s: %s, count %s", strconv.Quote(owner), strconv.Quote(subject),
				strconv.FormatInt(n, 10))
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("checking the stored counters: %w", err)
		}
	}
	return nil
}
