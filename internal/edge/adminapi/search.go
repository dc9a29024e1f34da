package adminapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

const (
	maxHits    = 10
	maxBatches = 1000 // maximum number of newest batches that are searched for serial numbers and activities
)

// searching contains the state of one running search.
type searching struct {
	*Admin
	text, part string // the search text as typed, and in lower case
	sees       func(appid string) bool
	owners     []string // accounts whose data is searched; empty = all accounts
	quick      bool
	caller     adminroute.Caller
	found      client.SearchResult
}

func (a accountAPI) search(ctx context.Context, in *client.SearchQuery) (client.SearchResult, error) {
	accountIDs, err := accountsOf(ctx, in.Account)
	if err != nil {
		return client.SearchResult{}, err
	}
	text := strings.TrimSpace(in.Text)
	s := &searching{Admin: a.Admin, text: text, part: strings.ToLower(text), owners: accountIDs, quick: in.Quick,
		caller: adminroute.CallerFromContext(ctx),
		found:  client.SearchResult{Hits: []client.SearchHit{}, Partial: []string{}}}
	s.sees = func(appid string) bool { return len(accountIDs) == 0 || slices.Contains(accountIDs, appid) }
	if text == "" {
		return s.found, nil
	}
	for _, kind := range []func(context.Context) error{s.accounts, s.rules, s.batches, s.code, s.serials, s.calls} {
		if err := kind(ctx); err != nil {
			return client.SearchResult{}, err
		}
	}
	return s.found, nil
}

func (s *searching) add(hits ...client.SearchHit) { s.found.Hits = append(s.found.Hits, hits...) }

func (s *searching) partial(kind string, is bool) {
	if is {
		s.found.Partial = append(s.found.Partial, kind)
	}
}

// findAccounts finds accounts in memory.
func (a accountAPI) findAccounts(s accounts.Search) ([]*accounts.Account, int, error) {
	if !a.Following.Loaded() {
		return nil, 0, huma.Error503ServiceUnavailable("accounts are being loaded: try again in a moment")
	}
	list, total := accounts.Find(a.InMemory(), s)
	return list, total, nil
}

func (s *searching) accounts(context.Context) error {
	list, total, err := accountAPI{s.Admin}.findAccounts(accounts.Search{Substring: s.part, Sees: s.sees, Order: accounts.ByName,
		Limit: maxHits})
	if err != nil {
		return err
	}
	for _, account := range list {
		s.add(client.SearchHit{Kind: "account", Key: account.AppID, Name: account.Name})
	}
	s.partial("account", total > len(list))
	return nil
}

// rules finds the rules whose prefix contains the text, and the rule that matches the text as a link.
func (s *searching) rules(ctx context.Context) error {
	list, complete, err := s.Rules.Search(ctx, rules.Search{Owners: s.owners, Substring: s.text, Quick: s.quick, Limit: maxHits})
	if err != nil {
		return err
	}
	hit, falls := s.Resolver.Finder.Governing(s.text)
	if falls && s.sees(hit.Owner) && !slices.ContainsFunc(list, func(r rules.Rule) bool { return r.ID == hit.ID }) {
		s.add(client.SearchHit{Kind: "rule", Key: hit.Prefix, Name: hit.Page, Account: hit.Owner})
	}
	for _, r := range list {
		s.add(client.SearchHit{Kind: "rule", Key: r.Prefix.Text, Name: r.Path, Account: r.Owner})
	}
	s.partial("rule", !complete || len(list) == maxHits)
	return nil
}

// batches finds batches by number or by a part of isv_application_id, and, in the newest batches, activities by a part of the name.
func (s *searching) batches(context.Context) error {
	now, n, looked := s.Codes.Now(), 0, 0
	var activities []client.SearchHit
	list := s.Codes.Memory.Batches()
	slices.Reverse(list)
	for _, b := range list {
		if !s.sees(b.Account) {
			continue
		}
		isv := strings.TrimPrefix(b.ISV, "\x01")
		if id := strconv.FormatInt(b.ID, 10); n <= maxHits && (id == s.text || strings.Contains(strings.ToLower(isv), s.part)) {
			n++
			if n <= maxHits {
				s.add(client.SearchHit{Kind: "batch", Key: id, Name: isv, Account: b.Account})
			}
		}
		looked++
		if looked > maxBatches || len(activities) > maxHits {
			continue
		}
		for _, name := range s.Codes.Memory.Activities(b.ID, now) {
			hit := client.SearchHit{Kind: "activity", Key: name, Account: b.Account}
			if strings.Contains(strings.ToLower(name), s.part) && !slices.Contains(activities, hit) {
				activities = append(activities, hit)
			}
		}
	}
	s.partial("batch", n > maxHits)
	s.add(activities[:min(len(activities), maxHits)]...)
	s.partial("activity", len(activities) > maxHits || looked > maxBatches)
	return nil
}

// code finds the code that the text names.
func (s *searching) code(ctx context.Context) error {
	name := codes.CodeName{URL: s.text}
	batch, index, pair := strings.Cut(s.text, ":")
	if id, err := strconv.ParseInt(batch, 10, 64); pair && err == nil {
		if pos, err := strconv.ParseInt(index, 10, 64); err == nil {
			name = codes.CodeName{ID: id, Index: pos, HasIndex: true}
		}
	} else if len(s.text) == codes.CodeLength {
		name = codes.CodeName{Code: s.text}
	}
	f, err := s.Codes.Lookup(ctx, name)
	if code, _ := errcode.FromError(err); err != nil && code == errcode.SystemError && !errors.Is(err, codes.ErrNoBatch) {
		return err
	}
	if err == nil && s.sees(f.Batch.Account) {
		s.add(client.SearchHit{Kind: "code", Key: fmt.Sprintf("%d:%d", f.Batch.ID, f.Index), Account: f.Batch.Account})
	}
	return nil
}

// serials finds the codes of the newest batches whose serial number begins with the text.
func (s *searching) serials(ctx context.Context) error {
	names, ids := map[int64]string{}, []int64(nil)
	list := s.Codes.Memory.Batches()
	slices.Reverse(list)
	for _, b := range list {
		if s.sees(b.Account) && len(ids) < maxBatches {
			names[b.ID] = b.Account
			ids = append(ids, b.ID)
		}
	}
	found, err := s.Codes.SearchSerials(ctx, ids, s.text, maxHits+1)
	for _, serialOf := range found[:min(len(found), maxHits)] {
		s.add(client.SearchHit{Kind: "serial", Key: fmt.Sprintf("%d:%d", serialOf.Batch, serialOf.Index), Name: serialOf.Serial.Serial,
			Account: names[serialOf.Batch]})
	}
	s.partial("serial", len(found) > maxHits || len(ids) == maxBatches)
	return err
}

// calls finds the call whose request id is the search text, for callers that may read the log of calls.
func (s *searching) calls(ctx context.Context) error {
	if !s.caller.Role.AtLeast(adminroute.Operator) {
		return nil
	}
	call, err := s.Call(ctx, s.text)
	if errors.Is(err, apiusage.ErrNoCall) {
		return nil
	}
	if err == nil && s.sees(call.Account) {
		s.add(client.SearchHit{Kind: "call", Key: call.RID, Name: call.Path, Account: call.Account})
	}
	return err
}
