package server

import (
	"context"
	"errors"
)

// reset brings everything back to the seed and to real time; keys stay.
func (s *Server) reset(ctx context.Context) error {
	// The seed is read first: if it cannot be used any more, nothing must be deleted.
	seed, err := readSeed(s.config)
	if err != nil {
		return err
	}
	err = s.book.Reset(func() error {
		return s.counter.Reset(func() error {
			err := s.store.InOne(ctx, func(ctx context.Context) error {
				if err := s.store.Reset(ctx); err != nil {
					return err
				}
				if err := s.loadSettings(ctx); err != nil {
					return err
				}
				return s.applySeed(ctx, seed, s.realNow)
			})
			if err != nil {
				return err
			}
			return s.ledger.journal.Clear(ctx)
		})
	})
	if err = errors.Join(err, s.loadSettings(ctx)); err != nil {
		return err
	}
	if err := s.clock.Reset(); err != nil {
		return err
	}
	s.plan.Clear()
	s.stubs.Clear()
	s.calls.Clear()
	if s.forgetCallers != nil {
		s.forgetCallers()
	}
	s.accounts.ForgetGuesses()
	s.book.Minutes.Forget()
	s.press.Forget()
	return s.current.Load(ctx)
}
