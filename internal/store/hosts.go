package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

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
