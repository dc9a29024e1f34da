package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Walk implements rules.Tx. Without a filter, the query of a page reads only the rows that it returns.
func (t ruleQueries) Walk(ctx context.Context, s rules.Search, owner string, target int) (found []rules.Rule, next int64, err error) {
	var w criteria
	rest, end, order := "id > ?", "id <= ?", " ORDER BY id"
	if s.Newest {
		rest, end, order = "id < ?", "id >= ?", " ORDER BY id DESC"
	}
	w.andIf(owner != "", "owner = ?", owner)
	w.andIf(s.From > 0, rest, s.From)
	if s.Filters() {
		err = t.row(ctx, fmt.Sprintf(`SELECT id FROM rules`+w.String()+order+` LIMIT 1 OFFSET %d`, target-1), w.args...).Scan(&next)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, 0, err
		}
		w.andIf(next != 0, end, next)
	}
	if s.Published != nil {
		w.and("published = ?", flag(*s.Published))
	}
	if s.Substring != "" {
		w.and(`LOWER(prefix COLLATE "binary") LIKE ? ESCAPE '!'`,
			"%"+strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(asciiLower(s.Substring))+"%")
	}
	found, err = list(ctx, t.Tx, scanRule, fmt.Sprintf(`SELECT `+ruleColumns+` FROM rules`+w.String()+order+` LIMIT %d`, s.Limit+1),
		w.args...)
	if err == nil && len(found) > s.Limit {
		found, next = found[:s.Limit], found[s.Limit-1].ID
	}
	return found, next, err
}

// asciiLower returns a text with its ASCII letters in lower case, as LOWER does in both databases with binary collation.
func asciiLower(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}

func (t ruleQueries) Beginning(ctx context.Context, s rules.Search) (all []rules.Rule, err error) {
	type bound struct{ column, text string }
	scheme, rest, complete := strings.Cut(s.Substring, "://")
	if !complete {
		rest = s.Substring
	}
	host, _, _ := strings.Cut(rest, "/") // only the host of a link is case-insensitive
	link := "://" + asciiLower(host) + rest[len(host):]
	wanted := []bound{{"key", asciiLower(scheme) + link}}
	if !complete {
		wanted = []bound{{"key", "https" + link}, {"key", "http" + link}, {"link_path", "/" + strings.TrimPrefix(rest, "/")}}
	}
	seen := map[int64]bool{}
	for _, b := range wanted {
		w := criteria{args: []any{b.text, b.text + "\U0010FFFF"}}
		andIn(&w, t.Tx, "owner IN (?)", s.Owners)
		items, err := list(ctx, t.Tx, scanRule, fmt.Sprintf(`SELECT `+ruleColumns+` FROM (SELECT `+ruleColumns+` FROM rules
			WHERE `+b.column+` >= $1 AND `+b.column+` < $2 ORDER BY `+b.column+` LIMIT %d) AS near`+w.String()+` LIMIT %d`,
			rules.PageScanLimit, s.Limit), w.args...)
		if err != nil {
			return nil, err
		}
		for _, r := range items {
			if !seen[r.ID] && len(all) < s.Limit {
				seen[r.ID] = true
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// RulesOfHost implements landing.Hosts.
func (s *Store) RulesOfHost(ctx context.Context, host string, limit int) (found []rules.Rule, err error) {
	found, err = viewed(ctx, s, func(tx *Tx) ([]rules.Rule, error) {
		return list(ctx, tx, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE host = $1 AND kind = $2 LIMIT $3`, host,
			string(rules.Ordinary), limit)
	})
	slices.SortFunc(found, func(a, b rules.Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
	return found, err
}

// HasRules implements landing.Hosts.
func (s *Store) HasRules(ctx context.Context, host string) (bool, error) {
	names, err := viewed(ctx, s, func(tx *Tx) ([]string, error) {
		return list(ctx, tx, scanText, `SELECT host FROM rules WHERE host = $1 AND kind = $2 LIMIT 1`, host, string(rules.Ordinary))
	})
	return len(names) > 0, err
}
