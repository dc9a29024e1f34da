package rules_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// countingStore counts read transactions.
type countingStore struct {
	rules.Store
	n int
}

func (r *countingStore) ViewRules(ctx context.Context, f func(rules.Tx) error) error {
	r.n++
	return r.Store.ViewRules(ctx, f)
}

// TestListings_InvalidatedByChange verifies that a list of an account's rules is cached until one of its rules changes, the account
// publishes or the month ends, and that changes of other accounts keep the list valid.
func TestListings_InvalidatedByChange(t *testing.T) {
	d := newFixture(t)
	counter := &countingStore{Store: d.store}
	d.Service.Store = counter
	list := func(name string, reads, total, quota int, prefixes ...string) {
		t.Helper()
		queried := append([]string{"https://h.example/none/", "not a link"}, prefixes...)
		for _, req := range []rules.ListRequest{{}, {Type: rules.ListPage, Page: 1, PageSize: 10},
			{Type: rules.ListPage, Page: 1, PageSize: 200}, {Type: rules.ListPrefixes, Prefixes: queried}} {
			for repeat := range 2 {
				before := counter.n
				got := require.Value(d.List(t.Context(), d.account("wxa"), req))(t)
				assert.Equal(t, counter.n-before, reads*(1-repeat), "%s: %+v, call %d: reads of the store", name, req, repeat+1)
				if got.Total != total || got.PublishesLeft != quota || len(got.Rules) != len(prefixes) {
					t.Errorf("%s: %+v: %d of %d rules, %d publishes left, want %d of %d, %d", name, req, len(got.Rules), got.Total,
						got.PublishesLeft, len(prefixes), total, quota)
					continue
				}
				if last := len(prefixes) - 1; req.Type == rules.ListNewest && last >= 0 && got.Rules[0].Prefix.Text != prefixes[last] {
					t.Errorf("%s: newest rule = %s, want %s", name, got.Rules[0].Prefix.Text, prefixes[last])
				}
			}
		}
	}
	quota := settings.Defaults().PublishQuota
	list("none", 1, 0, quota)
	d.addRule("wxa", draft("https://h.example/a/"))
	list("after an add", 1, 1, quota, "https://h.example/a/")
	d.addRule("wxb", draft("https://other.example/"))
	d.publishRule("wxa", draft("https://h.example/b/"))
	list("after a publish", 1, 2, quota-1, "https://h.example/a/", "https://h.example/b/")
	d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 7 })
	list("another quota", 0, 2, 6, "https://h.example/a/", "https://h.example/b/")
	d.now = d.now.Add(32 * 24 * time.Hour)
	list("another month", 1, 2, 7, "https://h.example/a/", "https://h.example/b/")
	require.NoError(t, d.Delete(d.actorContext("wxa"), d.account("wxa"), "https://h.example/b/", ""))
	list("after a delete", 1, 1, 7, "https://h.example/a/")
	// A text with a line feed is one prefix.
	for prefix, found := range map[string]int{"https://h.example/a/\nhttps://h.example/none/": 0, "https://h.example/a/": 1} {
		prefixes := []string{prefix}
		if found > 0 {
			prefixes = append(prefixes, "https://h.example/none/")
		}
		for range 2 {
			got, err := d.List(t.Context(), d.account("wxa"), rules.ListRequest{Type: rules.ListPrefixes, Prefixes: prefixes})
			assert.True(t, err == nil && len(got.Rules) == found, "%q: %d rules, want %d (%v)", prefixes, len(got.Rules), found, err)
		}
	}
	for _, prefixes := range [][]string{{"https://h.example/a/"}, {"https://h.example/b/"}, {"https://h.example/a/b/"}, {"not a link"}} {
		for range 2 {
			got, err := d.List(t.Context(), d.account("wxb"), rules.ListRequest{Type: rules.ListPrefixes, Prefixes: prefixes})
			assert.True(t, err == nil && len(got.Rules) == 0 && got.Total == 1, "prefixes %v of other accounts = %v, %v, want none",
				prefixes, got, err)
		}
	}
	a := d.account("wxa")
	a.JumpOpen = false
	d.putAccount(a)
	got, err := d.List(t.Context(), d.account("wxa"), rules.ListRequest{})
	assert.True(t, err != nil || !got.Open, "list of a closed account is open, want closed")
	require.NoError(t, d.store.Reset(t.Context()))
	before := counter.n
	got, err = d.List(t.Context(), a, rules.ListRequest{})
	assert.True(t, err != nil || got.Total == 0 && counter.n != before, "after a reset: %d rules, %d reads, want 0 rules from the store",
		got.Total,
		counter.n-before)
}

// listStore is a store with one list.
type listStore struct {
	rules.Store
	rules.Tx
	list  []rules.Rule
	reads int
}

func (s *listStore) ViewRules(_ context.Context, f func(rules.Tx) error) error {
	s.reads++
	return f(s)
}

func (s *listStore) Listing(context.Context, rules.Query, time.Time) ([]rules.Rule, int, int, error) {
	return s.list, len(s.list), 0, nil
}

// TestListings_CacheBounded verifies that the cache of listings is bounded for any number of requests and contains the latest listing.
func TestListings_CacheBounded(t *testing.T) {
	const tooLong = 1025
	var list [tooLong]rules.Rule
	for _, c := range []struct{ rules, prefix, want int }{ // rules of a list, bytes of a prefix, lists that the cache holds
		{0, 0, 1 << 15}, {1, 0, 1 << 14}, {1024, 0, 31}, {tooLong, 0, 0}, {0, 4096, 1927}, {0, 4097, 0},
	} {
		s := &listStore{}
		d := &rules.Service{Store: s, Epochs: new(accounts.Epochs), Settings: settings.NewLive(settings.Defaults()), Now: time.Now}
		cached := func(n, size int) bool {
			req := rules.ListRequest{Type: rules.ListPage, Page: n + 1, PageSize: 10}
			if c.prefix > 0 {
				req = rules.ListRequest{Type: rules.ListPrefixes, Prefixes: []string{fmt.Sprintf("%0*d", c.prefix-1, n)}}
			}
			s.list, s.reads = list[:size], 0
			require.NoError(t, assert.ErrorOf(d.List(t.Context(), accounts.Account{Kind: accounts.MiniProgram}, req)))
			return s.reads == 0
		}
		for n := range 2*c.want + 10 {
			cached(n, c.rules)
			require.Equal(t, cached(n, tooLong), c.want > 0, "%+v: list %d is cached", c, n)
		}
		hits := 0
		for n := range 2*c.want + 10 {
			if cached(n, tooLong) { // a list that is not cached is read, and too long for the cache
				hits++
			}
		}
		assert.Equal(t, hits, c.want, "%+v: cached lists", c)
	}
}
