package branding

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Service stores the appearances of all accounts and caches the appearances that pages use, so that most pages need no database query.
type Service struct {
	Store accounts.Transactions[Tx]
	Log   *slog.Logger
	// RealNow returns the real time, which determines when the cached error of the store expires.
	RealNow func() time.Time

	decoding semaphore.Semaphore

	mu          sync.Mutex
	generation  uint64 // number of invalidations: a result is not cached if this number has changed during the read
	appearances map[string]cachedAppearance
	logos       map[string][]byte
}

// cachedAppearance is the cached appearance of one account.
type cachedAppearance struct {
	Appearance
	until time.Time // zero = the entry is valid until the appearance changes
}

const (
	// maxAppearances and maxLogos are the maximum numbers of cached appearances and logos: at most 4 MiB and 12 MiB.
	maxAppearances, maxLogos = 1024, 256
	// queryTimeout is the timeout of a page's store query; errorTTL is the time for which the store is not queried again after an error.
	queryTimeout, errorTTL = 2 * time.Second, 5 * time.Second
)

// Get returns the stored appearance of an account and its logo as PNG. Get returns accounts.ErrNoAccount if the account does not
// exist, and the zero value for an account without an appearance.
func (s *Service) Get(ctx context.Context, appid string) (a Appearance, png []byte, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		if _, err := tx.Account(ctx, appid); err != nil {
			return err
		}
		if a, err = orNone(tx.Appearance(ctx, appid)); err == nil && a.Logo.Hash != "" {
			png, err = tx.Logo(ctx, a.Logo.Hash)
		}
		return err
	})
	a.AppID = appid
	return a, png, err
}

// NewLogo describes a change of a logo.
type NewLogo struct {
	File   []byte // uploaded file; empty = the logo is unchanged
	Remove bool
}

// Put stores the appearance of an account; logo describes the change of its logo. Put returns accounts.ErrNoAccount or accounts.Invalid.
func (s *Service) Put(ctx context.Context, a Appearance, logo NewLogo) error {
	if err := a.Validate(); err != nil {
		return err
	}
	var newLogo Logo
	var png []byte
	if logo.Remove && len(logo.File) > 0 {
		return accounts.Invalidf("logo: a new logo and its removal are both requested: choose one")
	}
	if len(logo.File) > 0 {
		var err error
		if newLogo, png, err = s.encodeLogo(ctx, logo.File); err != nil {
			return err
		}
	}
	err := s.Store.Update(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, a.AppID); err != nil {
			return err
		}
		if _, err := tx.Account(ctx, a.AppID); err != nil {
			return err
		}
		a.Logo = newLogo
		file := png
		if !logo.Remove && png == nil {
			old, err := orNone(tx.Appearance(ctx, a.AppID))
			if err != nil {
				return err
			}
			if a.Logo = old.Logo; old.Logo.Hash != "" {
				if file, err = tx.Logo(ctx, old.Logo.Hash); err != nil {
					return err
				}
			}
		}
		return tx.PutAppearance(ctx, a, file)
	})
	s.Invalidate(a.AppID)
	return err
}

func orNone(a Appearance, err error) (Appearance, error) {
	if errors.Is(err, ErrNone) {
		return Appearance{}, nil
	}
	return a, err
}

// Invalidate removes the appearance of an account from the cache; "" = all accounts.
func (s *Service) Invalidate(appid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if appid == "" {
		s.appearances, s.logos = nil, nil // an import or a reset can change the appearances and the logos of all accounts
		return
	}
	delete(s.appearances, appid)
}

// Lookup returns the appearance of an account for a page, from the cache if possible; if the store fails, the result has no branding.
func (s *Service) Lookup(ctx context.Context, appid string) Appearance {
	now := s.RealNow()
	s.mu.Lock()
	entry, ok := s.appearances[appid]
	generation := s.generation
	s.mu.Unlock()
	if ok && (entry.until.IsZero() || now.Before(entry.until)) {
		return entry.Appearance
	}
	queryCtx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := s.Store.View(queryCtx, func(tx Tx) (err error) {
		entry.Appearance, err = orNone(tx.Appearance(queryCtx, appid))
		return err
	})
	if ctx.Err() != nil {
		return Appearance{} // the client has disconnected
	}
	entry.until = time.Time{}
	if err != nil {
		s.Log.WarnContext(ctx, "account appearance not readable; pages use the default", "account", appid, "error", err)
		entry = cachedAppearance{until: now.Add(errorTTL)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation == s.generation {
		if s.appearances == nil || len(s.appearances) >= maxAppearances {
			s.appearances = map[string]cachedAppearance{}
		}
		s.appearances[appid] = entry
	}
	return entry.Appearance
}

// CachedLogo returns the PNG of a logo from the cache; ok is false if it must be read from the store.
func (s *Service) CachedLogo(hash string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, ok := s.logos[hash]
	return file, ok
}

// LoadLogo returns the PNG of a logo from the store and caches it; it returns ErrNone if no account uses the hash.
func (s *Service) LoadLogo(ctx context.Context, hash string) (file []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	file, err = accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]byte, error) { return tx.Logo(ctx, hash) })
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The content for a hash never changes, so cached logos need no invalidation.
	if s.logos == nil || len(s.logos) >= maxLogos {
		s.logos = map[string][]byte{}
	}
	s.logos[hash] = file
	return file, nil
}
