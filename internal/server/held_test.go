package server

import (
	"context"
	"iter"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// heldRules are rules of which the last is read when a test lets it.
type heldRules struct {
	rules.Store
	hold func()
}

func (h heldRules) AllRules(ctx context.Context) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		defer h.hold()
		h.Store.AllRules(ctx)(yield)
	}
}

// HoldReload lets a test hold up the next reload of a server, which the function that it returns begins.
func HoldReload(s *Server, hold func()) (reload func(context.Context) error) {
	s.domain.current.RuleStore = heldRules{s.domain.current.RuleStore, hold}
	return s.domain.current.Load
}
