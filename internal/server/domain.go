package server

import (
	"cmp"
	"context"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/store"
)

// domain holds the domain services.
type domain struct {
	accounts *accounts.Service
	rules    *rules.Service
	codes    *codes.Service
	// packageSigner signs the packages for printers.
	packageSigner *printpackage.Signer
	ticketWriter  *codes.TicketWriter
	usage         *apiusage.Service
	keys          *accounts.ScanKeys
	people        *iam.Service
	appearances   *branding.Service
	products      *digitallink.Service
	current       *replica.Replica
	contact       contact
}

func (s *Server) openDomain(ctx context.Context) error {
	if err := s.openClock(ctx); err != nil {
		return err
	}
	s.openUsage()
	epochs := s.store.Epochs()
	s.domain.current = &replica.Replica{Rules: index.New(), Accounts: replica.NewAccounts(), Codes: codes.NewMemory(s.store),
		RuleStore:    s.store,
		AccountStore: s.store,
		History:      s.store, SnapshotFile: filepath.Join(s.config.Data, snapshotFile), Log: s.log}
	s.domain.accounts = &accounts.Service{Store: s.store, Key: s.secrets.vault, Settings: s.chosen.settings, Now: s.now,
		Random: s.random, MinSecret: s.config.minSecret(),
		Changed: s.domain.current.RefreshAccounts, Spend: s.domain.usage.Spend, Minutes: s.domain.usage.Minutes.Allow, Epochs: epochs,
		ClockBelieved: s.wall.Believed,
		ActiveCodes: func(ctx context.Context, tx accounts.Tx, appid string) (int, error) {
			return s.domain.codes.CountOpening(ctx, store.CodesTx(tx), appid)
		},
		CountNow: s.countNow, RealNow: s.realNow, Guessed: s.access().guessed}
	s.domain.rules = &rules.Service{Store: s.store, Settings: s.chosen.settings, Now: s.now, CountNow: s.countNow,
		ClockBelieved: s.wall.Believed, Epochs: epochs, Fetch: s.requests().fetch,
		Changed: s.domain.current.RefreshRule, ManyChanged: s.domain.current.RefreshMany}
	if err := s.openCodeService(ctx, s.secrets.ring); err != nil {
		return err
	}
	s.domain.keys = &accounts.ScanKeys{Store: s.store, Vault: s.secrets.vault, Now: s.now, Random: s.random}
	s.domain.people = &iam.Service{Store: s.store.People(), Vault: s.secrets.vault, Now: s.realNow, Random: s.random,
		ClockBelieved: s.wall.Believed, Guessed: s.access().guessedPerson}
	s.domain.appearances = &branding.Service{Store: s.store.Appearances(), Log: s.log, RealNow: s.realNow}
	s.domain.products = &digitallink.Service{Store: s.store.GS1(), Now: s.now,
		Hosts:   func() []string { return s.chosen.settings.Get().GS1Hosts },
		Holder:  func(digits string) (string, string) { return s.chosen.settings.Get().GS1Prefixes.Holder(digits) },
		Changed: s.domain.current.ProductsChanged}
	s.followed()
	s.metrics = newMetrics()
	watchGauge(s.metrics, "qrjump_rules", s.domain.current.Rules.Len)
	watchGauge(s.metrics, "qrjump_replica_stale", func() (stale int) {
		if s.domain.current.Stale() {
			stale = 1
		}
		return stale
	})
	watchCount(s.metrics, "qrjump_call_log_dropped_total", s.domain.usage.Dropped)
	watchGauge(s.metrics, "qrjump_call_log_queue_length", s.domain.usage.Waiting)
	watchGauge(s.metrics, "qrjump_replica_staleness_seconds", func() float64 { return s.age().Seconds() })
	watchGauge(s.metrics, "qrjump_replication_lag_seconds", func() float64 { return s.domain.current.Staleness().Seconds() })
	watchGauge(s.metrics, "qrjump_replication_lag_changes", timely(s.domain.current.Lag))
	s.watch()
	return nil
}

// memoryComponent returns the component that loads rules, accounts and codes into memory, and repeats failed reads of changes.
func (s *Server) memoryComponent() component {
	return component{
		name: "memory of scans",
		start: func(ctx context.Context) error {
			if err := s.domain.current.Load(ctx); err != nil {
				return err
			}
			return s.domain.keys.Load(ctx)
		},
		run: func(ctx context.Context) { s.domain.current.Retry(ctx, time.Second) },
	}
}

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
	if cell := s.config.MinCodeCounter / codes.CellCounters; cell > 0 {
		if err := store.RaiseNumbers(ctx, s.store, cell); err != nil {
			return err
		}
	}
	s.secrets.openIDs, s.scanning.users = openIDs, s.secrets.vault.Hasher("scan_user")
	defer func() { s.domain.ticketWriter = codes.NewTicketWriter(s.domain.codes) }()
	s.domain.codes = &codes.Service{Store: s.store, Memory: s.domain.current.Codes, Keys: keys, Vault: s.secrets.vault,
		OpenIDs: openIDs, Settings: s.chosen.settings,
		Now: s.now, CountNow: s.countNow, ClockBelieved: s.wall.Believed, Random: s.random,
		Prefix: cmp.Or(s.config.CodePrefix, codes.DefaultPrefix),
		Closed: s.config.CodePrefix == "" && !s.config.Dev,
		Floor:  s.config.MinCodeCounter, ByTime: !s.config.Dev, Shared: s.store.Shared(), Changed: s.domain.current.RefreshBatch,
		MatchRule: func(text string) (string, bool) {
			hit, ok := s.domain.current.Rules.Governing(text)
			return hit.Prefix, ok
		}}
	return nil
}

// recheckInterval is the interval between two searches for verification files that are due.
const recheckInterval = time.Minute

func (s *Server) openRechecks(context.Context) error {
	var failing atomic.Int64
	watchGauge(s.metrics, "qrjump_verification_files_failing", failing.Load)
	s.rechecks = &rules.Verifier{Service: s.domain.rules, Store: store.Rechecks{Store: s.store}, Log: s.log, Failing: failing.Store,
		Off: func() bool { return !s.chosen.settings.Get().ReverifyDomains }}
	return nil
}
