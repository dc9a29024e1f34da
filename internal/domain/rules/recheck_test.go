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
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// night is a book with rules whose files a test puts in place and takes away.
type night struct {
	*rules.Verifier
	t     *testing.T
	store *store.Store
	now   time.Time
	logs  bytes.Buffer

	mu    sync.Mutex
	files map[string]string
	asked []string
	bad   int64
}

func nightfall(t *testing.T) *night {
	t.Helper()
	s, err := store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	n := &night{t: t, store: s, now: time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC), files: map[string]string{}}
	service := &rules.Service{Store: s, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return n.now },
		Changed: func(context.Context, string) {},
		Fetch: func(_ context.Context, url string, _ bool) ([]byte, []rules.FetchStep, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.asked = append(n.asked, url)
			text, ok := n.files[url]
			if !ok {
				return nil, nil, errors.New("the host returned status 404, want 200")
			}
			return []byte(text), nil, nil
		}}
	n.Verifier = &rules.Verifier{Service: service, Store: store.Rechecks{Store: s}, Log: slog.New(slog.NewTextHandler(&n.logs, nil)),
		Failing: func(bad int64) { n.bad = bad }}
	for _, appid := range []string{"shop", "tea"} {
		one := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
			Versions: []accounts.Version{accounts.Release},
			Confirm:  accounts.ConfirmFile{Name: appid + ".txt", Content: "content of " + appid}}
		require.NoError(t, s.UpdateAccounts(t.Context(), func(tx accounts.Tx) error { return tx.PutAccount(t.Context(), one) }))
	}
	return n
}

func (n *night) add(owner, prefix string) {
	n.t.Helper()
	p, err := rules.ParsePrefix(prefix, rules.Ordinary, false)
	require.NoError(n.t, err)
	n.files[p.ConfirmAddress(owner+".txt")] = "content of " + owner + "\n"
	caller := accounts.Account{AppID: owner, Kind: accounts.MiniProgram, Subject: accounts.Company,
		Confirm: accounts.ConfirmFile{Name: owner + ".txt", Content: "content of " + owner}}
	require.NoError(n.t, n.Service.Add(accounts.WithActor(n.t.Context(), accounts.Actor{ActorID: caller.AppID,
		RID: "rid of " + prefix}), caller, rules.Draft{Prefix: prefix, Path: "p", OpenVersion: 3}))
}

// day lets a day pass, an hour at a time, and returns what was asked for.
func (n *night) day() []string {
	n.t.Helper()
	n.asked = nil
	for range 24 {
		for {
			did, err := n.RunDue(n.t.Context(), 8)
			require.NoError(n.t, err)
			if did == 0 {
				break
			}
		}
		n.now = n.now.Add(time.Hour)
	}
	slices.Sort(n.asked)
	return n.asked
}

func (n *night) list(failing bool) []rules.Reverification {
	n.t.Helper()
	found, err := store.Rechecks{Store: n.store}.List(n.t.Context(), rules.ReverificationQuery{Failing: failing, Limit: 100})
	require.NoError(n.t, err)
	return found
}

func TestRecheck_OncePerDay(t *testing.T) {
	t.Parallel()
	n := nightfall(t)
	var want []string
	for i := range 20 {
		n.add("shop", fmt.Sprintf("https://h%d.example/a/x", i))
		n.add("shop", fmt.Sprintf("https://h%d.example/a/y", i)) // the same directory
		want = append(want, fmt.Sprintf("https://h%d.example/a/shop.txt", i))
	}
	n.add("tea", "https://tea.example/")
	want = append(want, "https://tea.example/tea.txt")
	slices.Sort(want)
	n.day() // the first day begins in its middle
	for range 3 {
		got := n.day()
		assert.True(t, slices.Equal(got, want), "asked for %v, want %v", got, want)
	}
	// Not all at once.
	hours := map[time.Time]int{}
	for _, r := range n.list(false) {
		hours[r.NextAt.Truncate(time.Hour)]++
	}
	assert.True(t, len(hours) >= 8, "21 files in %d hours of the day", len(hours))
	if len(n.list(true)) != 0 || strings.Contains(n.logs.String(), "WARN") {
		t.Errorf("%v %s", n.list(true), n.logs.String())
	}
}

func TestRecheck_MissingFileWarnsOnly(t *testing.T) {
	t.Parallel()
	n := nightfall(t)
	n.add("shop", "https://a.example/x/y")
	n.add("tea", "https://b.example/")
	n.day()
	const gone, other = "https://a.example/x/shop.txt", "https://b.example/tea.txt"
	delete(n.files, gone)
	n.files[other] = "another content"
	before := n.rules()
	n.day()
	found := n.list(true)
	require.True(t, len(found) == 2 && !found[0].OK && strings.Contains(found[0].Reason, "404") &&
		strings.Contains(found[1].Reason, `the file contains "another content"`) && found[0].Directory == "https://a.example/x/",
		"%+v", found)
	since := found[0].FailingSince
	n.day()
	failing := n.list(true)
	assert.True(t, len(failing) == 2 && failing[0].FailingSince.Equal(since) && failing[0].CheckedAt.After(since), "%+v", failing)
	got := strings.Count(n.logs.String(), "verification file missing")
	assert.True(t, got >= 4, "%d warnings: %s", got, n.logs.String())
	after := n.rules()
	assert.True(t, slices.Equal(before, after), "the rules were %v, are %v", before, after)
	n.files[gone], n.files[other] = "content of shop", "content of tea"
	n.day()
	found = n.list(true)
	assert.True(t, len(found) == 0 && strings.Count(n.logs.String(), "verification file restored") == 2, "%+v %s", found, n.logs.String())
}

// rules are all rules in words.
func (n *night) rules() (list []string) {
	for r, err := range n.store.AllRules(n.t.Context()) {
		require.NoError(n.t, err)
		list = append(list, fmt.Sprint(r.Owner, r.Prefix.Text, r.Published, r.UpdatedAt))
	}
	return list
}

func TestRecheck_SkipsDeletedRule(t *testing.T) {
	t.Parallel()
	n := nightfall(t)
	n.add("shop", "https://a.example/x")
	n.add("shop", "https://a.example/y")
	n.add("tea", "https://b.example/")
	did, err := n.RunAll(t.Context(), 50)
	require.True(t, err == nil && did == 2, "%d %v", did, err)
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/x", ""))
	n.day()
	if got := n.day(); !slices.Equal(got, []string{"https://a.example/shop.txt", "https://b.example/tea.txt"}) {
		t.Errorf("the other rule of the directory: %v", got)
	}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/y", ""))
	n.day()
	if got := n.day(); !slices.Equal(got, []string{"https://b.example/tea.txt"}) || len(n.list(false)) != 1 {
		t.Errorf("%v %v", got, n.list(false))
	}
	// Whom the operator trusts nobody asks.
	require.NoError(t, n.Service.SetDomain(t.Context(), "b.example", rules.Trusted))
	delete(n.files, "https://b.example/tea.txt")
	if got := n.day(); len(got) != 0 || len(n.list(true)) != 0 {
		t.Errorf("%v %v", got, n.list(true))
	}
}

// An owner may have more rules than one look at them brings.
func TestRecheck_SharedDirectoryManyRules(t *testing.T) {
	t.Parallel()
	n := nightfall(t)
	n.add("shop", "https://a.example/x")
	did, err := n.RunAll(t.Context(), 50)
	require.True(t, err == nil && did == 1, "%d %v", did, err)
	var more []rules.Rule
	for i := range 1001 {
		text := fmt.Sprintf("https://b.example/%d", i)
		if i == 1000 {
			text = "https://a.example/y" // the last that is listed
		}
		p, err := rules.ParsePrefix(text, rules.Ordinary, false)
		require.NoError(t, err)
		more = append(more, rules.Rule{Kind: rules.Ordinary, Owner: "shop", Target: "shop", Prefix: p, Path: "p", OpenVersion: 3})
	}
	require.NoError(t, n.store.UpdateRules(t.Context(), func(tx rules.Tx) error {
		return tx.AddRules(t.Context(), more, rules.ChangeMeta{})
	}))
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company}
	require.NoError(t, n.Service.Delete(t.Context(), shop, "https://a.example/x", ""))
	require.NoError(t, store.Rechecks{Store: n.store}.MakeDue(t.Context(), n.now))
	require.NoError(t, assert.ErrorOf(n.RunDue(t.Context(), 50)))
	if got := n.list(false); len(got) != 1 || got[0].Prefix != "https://a.example/y" || !got[0].OK {
		t.Errorf("the other rule of the directory was not found: %+v", got)
	}
}
