package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

func readPrefix(f *fields) (string, error) {
	prefix := f.text("prefix")
	if f.err == nil && prefix == "" {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixMissing, "prefix is missing")
	}
	return prefix, f.err
}

// publishRule publishes a rule. Contract: rules §1.4.
func (a *API) publishRule(ctx context.Context, c *call, f *fields) (any, error) {
	prefix, err := readPrefix(f)
	if err != nil {
		return nil, err
	}
	return success, a.Rules.Publish(ctx, c.caller, prefix)
}
