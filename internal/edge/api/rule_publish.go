package api

import "context"

// publishRule publishes a rule. Contract: rules §1.4.
func (a *API) publishRule(ctx context.Context, c *call, prefix string) (any, error) {
	return success, a.Rules.Publish(ctx, c.caller, prefix)
}
