package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// publishRule publishes a rule. Contract: rules §1.4.
func (a *API) publishRule(ctx context.Context, c *call, f *fields) (any, error) {
	prefix := f.required("prefix", behaviour.RulesPrefixMissing, "prefix is missing")
	if f.err != nil {
		return nil, f.err
	}
	return success, a.Rules.Publish(ctx, c.caller, prefix)
}
