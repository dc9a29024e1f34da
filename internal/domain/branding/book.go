package branding

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Book is the appearances of all accounts: it changes them, and keeps those that pages
// asked for in memory, so that a page asks no database.
type Book struct {
	Store Store
	Log   *slog.Logger
	// RealNow is the clock of how long a fault of the store is remembered.
	RealNow func() time.Time

	decoding semaphore.Semaphore

	mu    sync.Mutex
	era   uint64 // of what is kept: what was read in an earlier one is not
	known map[string]kept
	logos map[string][]byte
}

// kept is the cached state of one account.
type kept struct {
	Appearance
	until time.Time // zero = until it changes
}

const (
	// mostKnown and mostLogos are how many are kept: 4 and 12 MiB of the largest.
	mostKnown, mostLogos = 1024, 256
	// patience is the time that a page waits for the store, and faulty the time for which the store is not asked again after it
	// failed.
	patience, faulty = 2 * time.Second, 5 * time.Second
)

// Get returns the appearance of an account as the store has it, with its logo as PNG:
// accounts.ErrNoAccount, and the zero value for one that has none.
func (b *Book) Get(ctx context.Context, appid string) (a Appearance, png []byte, err error) {
	err = b.Store.ViewAppearances(ctx, func(tx Tx) error {
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

// NewLogo is a change of a logo.
type NewLogo struct {
	File   []byte // as uploaded; empty = the logo stays
	Remove bool
}

// Put makes an account look like this, but for its logo. accounts.ErrNoAccount,
// accounts.Invalid.
func (b *Book) Put(ctx context.Context, a Appearance, logo NewLogo) error {
	if err := a.Validate(); err != nil {
		return err
	}
	var taken Logo
	var png []byte
	if logo.Remove && len(logo.File) > 0 {
		return invalidf("logo: it is to be removed, and there is a new one: choose one of both")
	}
	if len(logo.File) > 0 {
		var err error
		if taken, png, err = b.takeLogo(ctx, logo.File); err != nil {
			return err
		}
	}
	err := b.Store.UpdateAppearances(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, a.AppID); err != nil {
			return err
		}
		if _, err := tx.Account(ctx, a.AppID); err != nil {
			return err
		}
		a.Logo = taken
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
	b.Forget(a.AppID)
	return err
}

func orNone(a Appearance, err error) (Appearance, error) {
	if errors.Is(err, ErrNone) {
		return Appearance{}, nil
	}
	return a, err
}

// Forget makes the next page ask the store how an account looks; "" = every account.
func (b *Book) Forget(appid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.era++
	if appid == "" {
		b.known, b.logos = nil, nil // an import brings other pictures, a reset none
		return
	}
	delete(b.known, appid)
}

// Lookup returns the branding of an account for a page: from memory, and without branding while the store does not answer.
func (b *Book) Lookup(ctx context.Context, appid string) Appearance {
	now := b.RealNow()
	b.mu.Lock()
	have, ok := b.known[appid]
	era := b.era
	b.mu.Unlock()
	if ok && (have.until.IsZero() || now.Before(have.until)) {
		return have.Appearance
	}
	asked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := b.Store.ViewAppearances(asked, func(tx Tx) (err error) {
		have.Appearance, err = orNone(tx.Appearance(asked, appid))
		return err
	})
	if ctx.Err() != nil {
		return Appearance{} // the caller has gone
	}
	if have.until = (time.Time{}); err != nil {
		b.Log.WarnContext(ctx, "how an account looks could not be read; its pages show nothing of it", "account", appid, "error", err)
		have = kept{until: now.Add(faulty)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if era == b.era {
		if b.known == nil || len(b.known) >= mostKnown {
			b.known = map[string]kept{}
		}
		b.known[appid] = have
	}
	return have.Appearance
}

// Kept returns the PNG of a logo that a page showed; false where the store has to be asked.
func (b *Book) Kept(hash string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	file, ok := b.logos[hash]
	return file, ok
}

// Read returns the PNG of a logo from the store, which is kept from then on; ErrNone where no
// account has it.
func (b *Book) Read(ctx context.Context, hash string) (file []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = b.Store.ViewAppearances(ctx, func(tx Tx) (err error) {
		file, err = tx.Logo(ctx, hash)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// The content of a hash is never another, so an old one does no harm.
	if b.logos == nil || len(b.logos) >= mostLogos {
		b.logos = map[string][]byte{}
	}
	b.logos[hash] = file
	return file, nil
}
