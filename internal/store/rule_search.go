package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/internal/rules"
)

// Walk implements rules.Tx. A page without a filter looks at its own rows.
func (t *Tx) Walk(ctx context.Context, s rules.Search, owner string, look int) (found []rules.Rule, next int64, err error) {
	var inside, outside []string
	var args []any
	add := func(list *[]string, condition string, arg any) {
		args = append(args, arg)
		*list = append(*list, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(args))))
	}
	after, order := "id > ?", " ORDER BY id"
	if s.Newest {
		after, order = "id < ?", " ORDER BY id DESC"
	}
	if owner != "" {
		add(&inside, "owner = ?", owner)
	}
	if s.From > 0 {
		add(&inside, after, s.From)
	}
	if !s.Filters() {
		look = s.Limit + 1
	}
	looked := ` FROM rules` + conditions(inside) + order
	bounds := args[:len(args):len(args)]
	if s.Published != nil {
		add(&outside, "published = ?", flag(*s.Published))
	}
	if s.Part != "" {
		lower := `LOWER(prefix COLLATE "binary")`
		add(&outside, `REPLACE(`+lower+`, CAST(? AS TEXT), '') <> `+lower, asciiLower(s.Part))
	}
	found, err = list(ctx, t, scanRule, fmt.Sprintf(`SELECT `+ruleColumns+` FROM (SELECT `+ruleColumns+looked+` LIMIT %d) AS looked`+
		conditions(outside)+order+` LIMIT %d`, look, s.Limit+1), args...)
	if err != nil || len(found) > s.Limit {
		if err == nil {
			found, next = found[:s.Limit], found[s.Limit-1].ID
		}
		return found, next, err
	}
	if s.Filters() {
		err = t.row(ctx, fmt.Sprintf(`SELECT id`+looked+` LIMIT 1 OFFSET %d`, look-1), bounds...).Scan(&next)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
	}
	return found, next, err
}

// asciiLower is a text whose letters without marks are small, as both databases write it with LOWER in binary order.
func asciiLower(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}

// Beginning implements rules.Tx.
func (t *Tx) Beginning(ctx context.Context, s rules.Search) (all []rules.Rule, err error) {
	type bound struct{ column, text string }
	scheme, rest, whole := strings.Cut(s.Part, "://")
	if !whole {
		rest = s.Part
	}
	host, _, _ := strings.Cut(rest, "/") // of a link, only the host may be written in letters of any case
	link := "://" + asciiLower(host) + rest[len(host):]
	wanted := []bound{{"key", asciiLower(scheme) + link}}
	if !whole {
		wanted = []bound{{"key", "https" + link}, {"key", "http" + link}, {"link_path", "/" + strings.TrimPrefix(rest, "/")}}
	}
	seen := map[int64]bool{}
	for _, one := range wanted {
		args := []any{one.text, one.text + "\U0010FFFF"}
		var owned []string
		if len(s.Owners) > 0 {
			owned = append(owned, "owner IN ("+placeholders(3, len(s.Owners))+")")
		}
		for _, owner := range s.Owners {
			args = append(args, owner)
		}
		some, err := list(ctx, t, scanRule, fmt.Sprintf(`SELECT `+ruleColumns+` FROM (SELECT `+ruleColumns+` FROM rules
			WHERE `+one.column+` >= $1 AND `+one.column+` < $2 ORDER BY `+one.column+` LIMIT %d) AS near`+conditions(owned)+` LIMIT %d`,
			rules.MostLooked, s.Limit), args...)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			if !seen[r.ID] && len(all) < s.Limit {
				seen[r.ID] = true
				all = append(all, r)
			}
		}
	}
	return all, nil
}
