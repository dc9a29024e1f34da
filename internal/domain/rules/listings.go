package rules

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Epoch returns the name of the counter in accounts.Epochs that counts an account's publishes and the changes of its rules.
func Epoch(owner string) string { return "rules of " + owner }

// listingMost is the maximum number of rules in one cached list. listingsMost is the maximum number in all cached lists together, which
// take some tens of MiB.
const (
	listingMost  = 1 << 10
	listingsMost = 1 << 15
)

// listed is the cache key of a request for a list: a request for a page, for the newest rules, or for the rules with certain prefixes.
type listed struct {
	owner         string
	newest        bool
	offset, limit int
	prefixes      string // prefixes joined by asOne; "" = any
}

// prefixesMost is the maximum size in bytes of the prefixes in a cache key; prefixesAre bytes of prefixes have the weight of one rule.
const prefixesMost, prefixesAre = 4 << 10, 256

// asOne joins prefixes into one text. exclusive is true if no other list of prefixes results in the same text.
func asOne(prefixes []string) (text string, exclusive bool) {
	text = "\n" + strings.Join(prefixes, "\n")
	return text, strings.Count(text, "\n") == len(prefixes)
}

// size returns the weight of a list in the cache.
func (l listed) size(r *remembered) int { return 1 + len(r.rules) + len(l.prefixes)/prefixesAre }

// remembered is a cached result of the store, valid for one epoch of the account's rules.
type remembered struct {
	epoch uint64
	month time.Time
	rules []Rule // read-only, because the slice is shared
	total int
	spent int // number of publishes since the start of the month
}

// listings is a cache of lists of rules. The zero value is an empty cache.
type listings struct {
	mu     sync.RWMutex
	lists  map[listed]*remembered
	weight int // total weight of all entries
}

// get returns a cached list if the epoch and the month still match.
func (m *listings) get(wanted listed, epoch uint64, month time.Time) (*remembered, bool) {
	m.mu.RLock()
	l := m.lists[wanted]
	m.mu.RUnlock()
	return l, l != nil && l.epoch == epoch && l.month.Equal(month)
}

func (m *listings) put(wanted listed, l *remembered) {
	if len(l.rules) > listingMost || len(wanted.prefixes) > prefixesMost {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lists == nil {
		m.lists = map[listed]*remembered{}
	}
	m.remove(wanted)
	m.lists[wanted] = l
	m.weight += wanted.size(l)
	for otherListed := range m.lists { // evicts arbitrary cached lists, which can be read again from the store
		if m.weight <= listingsMost {
			return
		}
		if otherListed != wanted {
			m.remove(otherListed)
		}
	}
}

func (m *listings) remove(wanted listed) {
	if l := m.lists[wanted]; l != nil {
		m.weight -= wanted.size(l)
		delete(m.lists, wanted)
	}
}

// The modes of listing rules. Contract: rules §1.3.
const (
	ListNewest   = 0 // the most recently added rules, at most 10,000
	ListPrefixes = 1
	ListPage     = 2
)

// Size limits of a list. Contract: rules §1.3.
const (
	maxNewest   = 10_000
	maxPrefixes = 200
	maxPage     = 200
)

// ListRequest selects rules of the caller.
type ListRequest struct {
	AppID    string // service accounts only: list only rules that open this Mini Program
	Type     int
	Prefixes []string
	Page     int // from 1
	PageSize int
}

// Listing is a list of the caller's rules.
type Listing struct {
	Rules         []Rule
	Total         int // number of rules on all pages together
	Open          bool
	PublishesLeft int // publishes left this month
}

// List returns rules of the caller. The error is 40097 for an invalid request, and 40166 for a Mini Program that the service
// account is not linked to. Contract: rules §1.3.
func (s *Service) List(ctx context.Context, owner accounts.Account, req ListRequest) (Listing, error) {
	// Inferred(rules.get.own): only the caller's own rules, not rules that other accounts created for the caller
	q := Query{Owner: owner.AppID}
	switch req.Type {
	case ListNewest: // Inferred(rules.get.order)
		q.Newest, q.Limit = true, maxNewest
	case ListPrefixes:
		if len(req.Prefixes) < 1 || len(req.Prefixes) > maxPrefixes {
			return Listing{}, errcode.InvalidArgs.WithDetail(behaviour.RulesGetPrefixes, "prefix_list has %d entries: want 1 to %d",
				len(req.Prefixes), maxPrefixes)
		}
		q.Limit = maxPrefixes
	case ListPage:
		if req.Page < 1 || req.PageSize < 1 || req.PageSize > maxPage {
			return Listing{}, errcode.InvalidArgs.WithDetail(behaviour.RulesGetPage,
				"page_num %d, page_size %d: want 1 or more, and 1 to %d",
				req.Page, req.PageSize,
				maxPage)
		}
		// A page beyond number 2^40 is empty; the limit prevents an integer overflow of the product.
		q.Offset, q.Limit = min(req.Page-1, 1<<40)*req.PageSize, req.PageSize
	default:
		return Listing{}, errcode.InvalidArgs.WithDetail(behaviour.RulesGetType, "get_type is %d: want 0, 1 or 2", req.Type)
	}
	if err := owner.JumpRules(); err != nil {
		return Listing{}, err
	}
	conf := s.Settings.Get()
	if kindFor(owner) == KindService && req.AppID == "" {
		if err := conf.NoteOrRefuse(ctx, behaviour.RulesGetAll, "appid is missing"); err != nil {
			return Listing{}, err
		}
	}
	month := conf.MonthStart(s.countNow())
	wanted := listed{owner: owner.AppID, newest: q.Newest, offset: q.Offset, limit: q.Limit}
	remembers := s.Epochs != nil && req.AppID == ""
	if req.Type == ListPrefixes {
		var exclusive bool
		wanted.prefixes, exclusive = asOne(req.Prefixes)
		remembers = remembers && exclusive
	}
	var epoch uint64
	quiet := false
	if remembers {
		epoch, quiet = s.Epochs.Lookup(Epoch(owner.AppID))
		if l, ok := s.listings.get(wanted, epoch, month); ok {
			return s.listing(owner, l), nil
		}
	}
	if req.Type == ListPrefixes {
		q.Keys = []string{} // Inferred(rules.get.whole)
		for _, p := range req.Prefixes {
			if link, ok := ParseLink(p); ok && PlainText(p) {
				q.Keys = append(q.Keys, link.Key)
			}
		}
	}
	l := remembered{epoch: epoch, month: month}
	err := s.Store.ViewRules(ctx, func(tx Tx) error {
		if kindFor(owner) == KindService && req.AppID != "" {
			if _, _, err := checkTarget(ctx, tx, owner, req.AppID); err != nil {
				return err
			}
			q.Target = req.AppID
		}
		var err error
		l.rules, l.total, l.spent, err = tx.Listing(ctx, q, month)
		return err
	})
	if err != nil {
		return Listing{}, err
	}
	if remembers && quiet {
		s.listings.put(wanted, &l)
	}
	return s.listing(owner, &l), nil
}

func (s *Service) listing(owner accounts.Account, l *remembered) Listing {
	return Listing{Rules: l.rules, Total: l.total, Open: owner.JumpOpen, PublishesLeft: s.publishesLeft(owner, l.spent)}
}
