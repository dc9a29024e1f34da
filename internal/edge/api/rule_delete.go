package api

import "context"

// deleteRule deletes a rule with immediate effect. Contract: rules §1.5.
func (a *API) deleteRule(ctx context.Context, c *call, f *fields) (any, error) {
	prefix, err := readPrefix(f)
	appid := f.targetAppID(c.caller.Kind)
	if err != nil || f.err != nil {
		return nil, f.err
	}
	return success, a.Rules.Delete(ctx, c.caller, prefix, appid)
}
