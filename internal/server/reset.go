package server

import (
	"context"
	"errors"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/emulator"
)

// reset restores the state of the seed and real time; keys are kept.
func (s seeder) reset(ctx context.Context) error {
	// The seed is read first: if the seed is invalid, no data is deleted.
	seed, err := readSeed(s.config)
	if err != nil {
		return err
	}
	err = s.anew(ctx, func() error {
		return s.inTx(ctx, func(s seeder) error {
			if err := s.store.Reset(ctx); err != nil {
				return err
			}
			if err := s.settings.loadSettings(ctx); err != nil {
				return err
			}
			if err := s.applySeed(ctx, seed, s.realNow); err != nil {
				return err
			}
			return s.settings.applySet(ctx)
		})
	})
	if err != nil {
		return err
	}
	if err := s.emulation.clock.Reset(); err != nil {
		return err
	}
	return s.forgetAll(ctx)
}

// anew runs f, which replaces all stored data, and then deletes the old scans and call counts.
func (s seeder) anew(ctx context.Context, f func() error) error {
	err := s.domain.usage.Reset(func() error {
		return s.scanning.counter.Reset(func() error {
			if err := f(); err != nil {
				return err
			}
			return s.scanning.scanLog.journal.Clear(ctx)
		})
	})
	return errors.Join(err, s.settings.loadSettings(ctx))
}

// forgetAll deletes the injected faults and the state about callers in memory, and loads the in-memory copy again.
func (s seeder) forgetAll(ctx context.Context) error {
	s.emulation.plan.Clear()
	s.emulation.calls.Clear()
	if s.emulation.wire != nil {
		s.emulation.wire.ForgetCallers()
	}
	if s.emulation.pages != nil {
		s.emulation.pages.ForgetVisitors()
	}
	s.domain.accounts.Guesses.Clear()
	s.domain.usage.Minutes.Reset()
	s.domain.codes.ClearTicketCache()
	return errors.Join(s.store.RateLimits().Clear(ctx), s.domain.current.Load(ctx))
}

// resetAccounts restores the given accounts to the state of the seed and leaves all other accounts unchanged. For an account that is not in
// the seed, resetAccounts deletes the data that belongs to the account, but not the account.
func (s seeder) resetAccounts(ctx context.Context, appids []string) error {
	seed, err := readSeed(s.config)
	if err != nil {
		return err
	}
	if seed == nil {
		seed = &seedFile{}
	}
	for _, appid := range appids {
		seeded := func(a accounts.SeedAccount) bool { return a.AppID == appid }
		_, err := s.domain.accounts.Get(ctx, appid)
		if errors.Is(err, accounts.ErrNoAccount) && !slices.ContainsFunc(seed.Accounts, seeded) {
			return emulator.Unknown(appid)
		} else if err != nil && !errors.Is(err, accounts.ErrNoAccount) {
			return err
		}
	}
	err = s.domain.usage.ResetAccounts(ctx, appids, func() error {
		return s.inTx(ctx, func(s seeder) error { return s.replant(ctx, seed, appids) })
	})
	if err != nil {
		return err
	}
	s.emulation.plan.RemoveOf(appids)
	for _, appid := range appids {
		s.domain.accounts.Guesses.ClearOf(appid)
		if s.emulation.wire != nil {
			s.emulation.wire.ForgetCaller(appid)
		}
	}
	return errors.Join(s.store.RateLimits().Clear(ctx, appids...), s.domain.current.Reload(ctx))
}

// replant deletes the data of accounts and stores the seed's data of these accounts.
func (s seeder) replant(ctx context.Context, seed *seedFile, appids []string) error {
	for _, appid := range appids {
		if err := s.store.EmptyAccount(ctx, appid); err != nil {
			return err
		}
	}
	planted := *seed
	planted.Components = nil
	return s.plantAccounts(ctx, &planted, s.chosen.settings, s.now, func(appid string) bool { return slices.Contains(appids, appid) })
}
