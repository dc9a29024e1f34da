package rules_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// verifierFixture is a Verifier with a clock and verification files that the test changes.
type verifierFixture struct {
	*rules.Verifier
	t     *testing.T
	store *store.Store
	now   time.Time
	logs  bytes.Buffer

	mu      sync.Mutex
	files   map[string]string
	fetched []string
	failing int64
}

func newVerifierFixture(t *testing.T) *verifierFixture {
	t.Helper()
	s := openStore(t)
	n := &verifierFixture{t: t, store: s, now: time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC), files: map[string]string{}}
	service := &rules.Service{Store: s, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return n.now },
		Changed: func(context.Context, string) {},
		Fetch: func(_ context.Context, url string, _ bool) ([]byte, []rules.FetchStep, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.fetched = append(n.fetched, url)
			text, ok := n.files[url]
			if !ok {
				return nil, nil, errors.New("the host returned status 404, want 200")
			}
			return []byte(text), nil, nil
		}}
	n.Verifier = &rules.Verifier{Service: service, Store: store.Rechecks{Store: s}, Log: slog.New(slog.NewTextHandler(&n.logs, nil)),
		Failing: func(failing int64) { n.failing = failing }}
	for _, appid := range []string{"shop", "tea"} {
		require.NoError(t, s.UpdateAccounts(t.Context(), func(tx accounts.Tx) error { return tx.PutAccount(t.Context(), newOwner(appid)) }))
	}
	return n
}

func newOwner(appid string) accounts.Account {
	return accounts.Account{AppID: appid, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release},
		Confirm:  accounts.ConfirmFile{Name: appid + ".txt", Content: "content of " + appid}}
}

func (n *verifierFixture) add(owner, prefix string) {
	n.t.Helper()
	p := require.Value(rules.ParsePrefix(prefix, rules.Ordinary, false))(n.t)
	n.files[p.ConfirmAddress(owner+".txt")] = "content of " + owner + "\n"
	ctx := accounts.WithActor(n.t.Context(), accounts.Actor{ActorID: owner, RID: "rid of " + prefix})
	require.NoError(n.t, n.Service.Add(ctx, newOwner(owner), rules.Draft{Prefix: prefix, Path: "p", OpenVersion: 3}))
}

// advanceDay advances the clock by a day in steps of an hour and returns the sorted URLs that were fetched.
func (n *verifierFixture) advanceDay() []string {
	n.t.Helper()
	n.fetched = nil
	for range 24 {
		for {
			count := require.Value(n.RunDue(n.t.Context(), 8))(n.t)
			if count == 0 {
				break
			}
		}
		n.now = n.now.Add(time.Hour)
	}
	slices.Sort(n.fetched)
	return n.fetched
}

func (n *verifierFixture) list(failing bool) []rules.Reverification {
	n.t.Helper()
	return require.Value(store.Rechecks{Store: n.store}.List(n.t.Context(), rules.ReverificationQuery{Failing: failing, Limit: 100}))(n.t)
}

func TestRecheck_OncePerDay(t *testing.T) {
	t.Parallel()
	n := newVerifierFixture(t)
	var want []string
	for i := range 20 {
		n.add("shop", fmt.Sprintf("https://h%d.example/a/x", i))
		n.add("shop", fmt.Sprintf("https://h%d.example/a/y", i)) // the same directory
		want = append(want, fmt.Sprintf("https://h%d.example/a/shop.txt", i))
	}
	n.add("tea", "https://tea.example/")
	want = append(want, "https://tea.example/tea.txt")
	slices.Sort(want)
	n.advanceDay() // a part of a day
	for range 3 {
		got := n.advanceDay()
		assert.True(t, slices.Equal(got, want), "fetched %v, want %v", got, want)
	}
	// The fetches are spread over the day.
	hours := map[time.Time]int{}
	for _, r := range n.list(false) {
		hours[r.NextAt.Truncate(time.Hour)]++
	}
	assert.True(t, len(hours) >= 8, "21 files are due in %d hours, want at least 8", len(hours))
	assert.True(t, len(n.list(true)) == 0 && !strings.Contains(n.logs.String(), "WARN"), "failing: %v, want none; log: %s", n.list(true),
		n.logs.String())
}

func TestRecheck_MissingFileWarnsOnly(t *testing.T) {
	t.Parallel()
	n := newVerifierFixture(t)
	n.add("shop", "https://a.example/x/y")
	n.add("tea", "https://b.example/")
	n.advanceDay()
	const missing, changed = "https://a.example/x/shop.txt", "https://b.example/tea.txt"
	delete(n.files, missing)
	n.files[changed] = "another content"
	before := n.rules()
	n.advanceDay()
	found := n.list(true)
	require.True(t, len(found) == 2 && !found[0].OK && strings.Contains(found[0].Reason, "404") &&
		strings.Contains(found[1].Reason, `the file contains "another content"`) && found[0].Directory == "https://a.example/x/",
		"failing = %+v, want a missing and a changed file", found)
	since := found[0].FailingSince
	n.advanceDay()
	failing := n.list(true)
	assert.True(t, len(failing) == 2 && failing[0].FailingSince.Equal(since) && failing[0].CheckedAt.After(since),
		"failing a day later = %+v, want the same since %s", failing, since)
	got := strings.Count(n.logs.String(), "verification file missing")
	assert.True(t, got >= 4, "%d warnings, want at least 4: %s", got, n.logs.String())
	after := n.rules()
	assert.True(t, slices.Equal(before, after), "rules = %v, want %v as before", after, before)
	n.files[missing], n.files[changed] = "content of shop", "content of tea"
	n.advanceDay()
	found = n.list(true)
	assert.True(t, len(found) == 0 && strings.Count(n.logs.String(), "verification file restored") == 2,
		"failing = %+v, want none; log: %s", found, n.logs.String())
}

// rules returns owner, prefix, publication and update time of all rules.
func (n *verifierFixture) rules() (list []string) {
	for _, r := range require.All(n.t, n.store.AllRules(n.t.Context())) {
		list = append(list, fmt.Sprint(r.Owner, r.Prefix.Text, r.Published, r.UpdatedAt))
	}
	return list
}

func TestRecheck_SkipsDeletedRule(t *testing.T) {
	t.Parallel()
	n := newVerifierFixture(t)
	n.add("shop", "https://a.example/x")
	n.add("shop", "https://a.example/y")
	n.add("tea", "https://b.example/")
	count, err := n.RunAll(t.Context(), 50)
	require.True(t, err == nil && count == 2, "RunAll = %d, %v, want 2", count, err)
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/x", ""))
	n.advanceDay()
	if got := n.advanceDay(); !slices.Equal(got, []string{"https://a.example/shop.txt", "https://b.example/tea.txt"}) {
		t.Errorf("fetched %v, want the file of the second rule of the directory too", got)
	}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/y", ""))
	n.advanceDay()
	if got := n.advanceDay(); !slices.Equal(got, []string{"https://b.example/tea.txt"}) || len(n.list(false)) != 1 {
		t.Errorf("fetched %v, listed %v, want the file of tea only", got, n.list(false))
	}
	// Trusted hosts are not verified.
	require.NoError(t, n.Service.SetDomain(t.Context(), "b.example", rules.Trusted))
	delete(n.files, "https://b.example/tea.txt")
	if got := n.advanceDay(); len(got) != 0 || len(n.list(true)) != 0 {
		t.Errorf("fetched %v, failing %v, want none for a trusted host", got, n.list(true))
	}
}

// TestRecheck_SharedDirectoryManyRules verifies that the second rule of a directory is found although the owner has more rules than one
// page of the store.
func TestRecheck_SharedDirectoryManyRules(t *testing.T) {
	t.Parallel()
	n := newVerifierFixture(t)
	n.add("shop", "https://a.example/x")
	count, err := n.RunAll(t.Context(), 50)
	require.True(t, err == nil && count == 1, "RunAll = %d, %v, want 1", count, err)
	var added []rules.Rule
	for i := range 1001 {
		text := fmt.Sprintf("https://b.example/%d", i)
		if i == 1000 {
			text = "https://a.example/y" // the last rule in the list
		}
		p := require.Value(rules.ParsePrefix(text, rules.Ordinary, false))(t)
		added = append(added, rules.Rule{Kind: rules.Ordinary, Owner: "shop", Target: "shop", Prefix: p, Path: "p", OpenVersion: 3})
	}
	require.NoError(t, n.store.UpdateRules(t.Context(), func(tx rules.Tx) error {
		return tx.AddRules(t.Context(), added, rules.ChangeMeta{})
	}))
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/x", ""))
	require.NoError(t, store.Rechecks{Store: n.store}.MakeDue(t.Context(), n.now))
	require.NoError(t, assert.ErrorOf(n.RunDue(t.Context(), 50)))
	if got := n.list(false); len(got) != 1 || got[0].Prefix != "https://a.example/y" || !got[0].OK {
		t.Errorf("verifications = %+v, want the second rule of the directory", got)
	}
}
