package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// deleteRule deletes a rule with immediate effect. Contract: rules §1.5.
func (a *API) deleteRule(ctx context.Context, c *call, f *fields) (any, error) {
	prefix, appid := f.required("prefix", behaviour.RulesPrefixMissing), f.targetAppID(c.caller.Kind)
	if f.err != nil {
		return nil, f.err
	}
	return success, a.Rules.Delete(ctx, c.caller, prefix, appid)
}
