package server

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/store"
)

// openCodeService prepares the service that makes codes. Without --code-prefix, the service issues no codes; with --dev it does, with the
// platform's prefix.
func (s *Server) openCodeService(ctx context.Context, ring *keyring) error {
	keys, err := ring.codes(ctx)
	if err != nil {
		return err
	}
	seed, err := ring.secret(ctx, signKey)
	if err != nil {
		return err
	}
	if s.domain.packageSigner, err = printpackage.NewSigner(seed); err != nil {
		return err
	}
	openIDs, err := ring.openIDs(ctx)
	if err != nil {
		return err
	}
	if cell := s.config.MinCodeCounter / cellCounters; cell > 0 {
		if err := store.RaiseNumbers(ctx, s.store, cell); err != nil {
			return err
		}
	}
	prefix := s.config.CodePrefix
	if prefix == "" {
		prefix = codes.DefaultPrefix
	}
	s.secrets.openIDs, s.scanning.users = openIDs, s.secrets.vault.Hasher("scan_user")
	defer func() { s.domain.ticketWriter = codes.NewTicketWriter(s.domain.codes) }()
	s.domain.codes = &codes.Service{Store: s.store, Memory: s.domain.current.Codes, Keys: keys, Vault: s.secrets.vault,
		OpenIDs: openIDs, Settings: s.chosen.settings,
		Now: s.now, CountNow: s.countNow, ClockBelieved: s.wall.Believed, Random: s.random, Prefix: prefix,
		Closed: s.config.CodePrefix == "" && !s.config.Dev,
		Floor:  s.config.MinCodeCounter, ByTime: !s.config.Dev, Shared: s.store.Shared(), Changed: s.domain.current.RefreshBatch,
		MatchRule: func(text string) (string, bool) {
			hit, ok := s.domain.current.Rules.Governing(text)
			return hit.Prefix, ok
		}}
	return nil
}
