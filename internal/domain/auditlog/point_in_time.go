package auditlog

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// PointInTime resolves a scanned text as of a past time. PointInTime reconstructs only the state that is needed: the rules that can match
// the text, their accounts, and one code.
type PointInTime struct {
	Store Store
	Codes *codes.Service // nil = this server has no unique codes
}

// Answer is the page that a text opened at a past time, with the state that decided the result.
type Answer struct {
	scan.Decision
	Names []Name // objects whose changes can change the result
}

// Resolve resolves a scan with the state at req.At: it reads the last change of each object up to that time. Resolve has no side effects.
func (t PointInTime) Resolve(ctx context.Context, req scan.Request) (Answer, error) {
	p := &pastState{ctx: ctx, store: t.Store, at: req.At, found: map[string]*rules.Rule{}, accounts: map[string]AsOf{},
		links: map[string]bool{}}
	if link, ok := rules.ParseLink(req.Text); ok && rules.PlainText(req.Text) {
		if err := p.rules(link.Ends()); err != nil {
			return Answer{}, err
		}
	}
	r := scan.Resolver{Finder: scan.Overlay{Rules: p.found}, Accounts: p}
	if t.Codes != nil {
		r.Codes = pastCodes{p, t.Codes}
	}
	d := r.Resolve(req)
	if p.err != nil {
		return Answer{}, fmt.Errorf("resolving at a past time: %w", p.err)
	}
	return Answer{d, p.names}, nil
}

// pastState holds the loaded parts of the state at a past time.
type pastState struct {
	ctx      context.Context
	store    Store
	at       time.Time
	found    map[string]*rules.Rule
	accounts map[string]AsOf
	links    map[string]bool
	names    []Name
	err      error // first error
}

// rules loads the rules with the given keys. The keys of a text (Link.Ends) include the keys of rules that list the text as a test link,
// because a test link begins with its rule's prefix.
func (p *pastState) rules(keys []string) error {
	changes, err := p.store.RulesAsOf(p.ctx, keys, p.at)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if !c.IsRemoval() {
			p.found[c.Rule.Prefix.Key] = &c.Rule
		}
	}
	for _, key := range keys {
		p.names = append(p.names, Name{replica.RuleChange, key})
	}
	return nil
}

// Account implements scan.Accounts.
func (p *pastState) Account(appid string) (accounts.Account, bool) {
	state, cached := p.accounts[appid]
	if !cached {
		var err error
		if state, err = p.store.AccountAsOf(p.ctx, appid, p.at); err != nil && p.err == nil {
			p.err = err
		}
		p.accounts[appid] = state
		p.names = append(p.names, Name{replica.AccountChange, appid})
	}
	return state.Account, state.Known
}

// Linked implements scan.Accounts.
func (p *pastState) Linked(service, miniProgram string) bool {
	name := service + " " + miniProgram
	linked, cached := p.links[name]
	if !cached {
		var err error
		if linked, err = p.store.LinkedAsOf(p.ctx, service, miniProgram, p.at); err != nil && p.err == nil {
			p.err = err
		}
		p.links[name] = linked
		p.names = append(p.names, Name{replica.LinkChange, name})
	}
	return linked
}

type pastCodes struct {
	*pastState
	service *codes.Service
}

// Scan implements scan.Codes.
func (p pastCodes) Scan(text, user string, account func(string) (accounts.Account, bool)) (codes.Scanned, bool) {
	s, ok, err := p.service.ScanAsOf(p.ctx, text, user, p.at, account)
	if err != nil && p.err == nil {
		p.err = err
	}
	return s, ok
}
