package accounts_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// zone is the time zone of the platform's days.
var zone = time.FixedZone("", 8*3600)

// begin is in the middle of a day and of a minute.
var begin = time.Date(2026, 1, 31, 12, 0, 30, 0, zone)

// fixture is a Service on a real store with a clock that the test sets.
type fixture struct {
	*accounts.Service
	t     *testing.T
	store *store.Store
	dir   string
	mu    sync.Mutex
	now   time.Time
}

func newKey(t testing.TB) *sealer.Key {
	t.Helper()
	return require.Value(sealer.NewKey([]byte("0123456789abcdef0123456789abcdef")))(t)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := storetest.Folder(t)
	s := require.Value(store.Open(t.Context(), store.Target{Dir: dir}))(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w := &fixture{t: t, store: s, dir: dir, now: begin}
	w.Service = &accounts.Service{Store: s, Epochs: s.Epochs(), Key: newKey(t), Settings: settings.NewLive(settings.Defaults()),
		Minutes: new(apiusage.Minutes).Allow, Random: rand.Reader, Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		}}
	return w
}

func (w *fixture) setTime(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

func (w *fixture) putAccount(r accounts.Registration) {
	w.t.Helper()
	if r.Kind == "" {
		r.Kind = accounts.MiniProgram
	}
	require.NoError(w.t, w.Put(w.t.Context(), r))
}

// addMiniProgram creates a Mini Program with the secret "secret of APPID" and returns its credentials.
func (w *fixture) addMiniProgram(appid string) accounts.Credentials {
	w.t.Helper()
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: appid}, Secret: "secret of " + appid})
	return credentials(appid)
}

func credentials(appid string) accounts.Credentials {
	return accounts.Credentials{GrantType: "client_credential", AppID: appid, Secret: "secret of " + appid,
		IP: netip.MustParseAddr("203.0.113.1")}
}

func (w *fixture) mustIssueToken(c accounts.Credentials) accounts.Issued {
	w.t.Helper()
	return require.Value(w.IssueToken(w.t.Context(), c))(w.t)
}

func (w *fixture) mustStableToken(c accounts.Credentials, force bool) accounts.Issued {
	w.t.Helper()
	return require.Value(w.StableToken(w.t.Context(), c, force))(w.t)
}

// code returns the number of the error code of err, 0 for nil.
func code(err error) int {
	c, _ := errcode.FromError(err)
	return c.Number
}

// tokenCode returns the error code of a call with the token.
func (w *fixture) tokenCode(text string) int {
	w.t.Helper()
	_, err := w.AuthenticateWithin(w.t.Context(), text, nil)
	return code(err)
}

func (w *fixture) assertTokenCode(name, text string, want int) {
	w.t.Helper()
	assert.Equal(w.t, w.tokenCode(text), want, "%s: error code of a call with %s", w.now.Format(time.StampMilli), name)
}

// assertEqual fails the test with a diff unless got equals want.
func assertEqual[T any](t *testing.T, name string, got, want T) {
	t.Helper()
	assert.Equal(t, cmp.Diff(want, got), "", "%s (-want +got)", name)
}

// assertInvalid fails the test unless err is an Invalid error that contains want.
func assertInvalid(t *testing.T, name string, err error, want string) {
	t.Helper()
	_, ok := errors.AsType[accounts.Invalid](err)
	assert.True(t, ok && strings.Contains(err.Error(), want), "%s: %v, want an Invalid error with %q", name, err, want)
}

func TestDirectory_AccountImmutableFields(t *testing.T) {
	w := newFixture(t)
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxa", Name: "first"}, Secret: "s",
		MarketcodeKey: "0123456789abcdef"})
	first := require.Value(w.Get(t.Context(), "wxa"))(t)
	assertEqual(t, "default subject", first.Subject, accounts.Company)
	assertEqual(t, "day of creation", first.CreatedAt, begin)
	name, content := first.Confirm.Name, first.Confirm.Content
	assert.True(t, len(name) == 14 && strings.HasSuffix(name, ".txt") && len(content) == 32,
		"verification file %q with %q, want 10 characters + .txt with 32 characters", name, content)
	w.setTime(begin.Add(time.Hour))
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxa", Name: "second",
		Confirm: accounts.ConfirmFile{Name: "mine.txt"}}})
	second := require.Value(w.Get(t.Context(), "wxa"))(t)
	want := first
	want.Name = "second"
	assertEqual(t, "replaced without secrets", second, want)

	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxa"}, Secret: "other"})
	third := require.Value(w.Get(t.Context(), "wxa"))(t)
	assert.True(t, third.SecretHash != first.SecretHash && third.MarketcodeKey == first.MarketcodeKey,
		"account after a new secret = %+v, want the marketcode key unchanged", third)
}

func TestDirectory_InvalidAccount(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxmini")
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxservice", Kind: accounts.ServiceAccount}})
	require.NoError(t, w.PutComponent(t.Context(), accounts.Component{AppID: "wxcomponent"}, "s", "t", aesKey))
	for _, c := range []struct {
		name         string
		registration accounts.Registration
		want         string // part of the error
	}{
		{"no AppID", accounts.Registration{}, "appid"},
		{"an AppID with a space", accounts.Registration{Account: accounts.Account{AppID: "a b"}}, "appid"},
		{"an AppID with NUL", accounts.Registration{Account: accounts.Account{AppID: "a\x00"}}, "appid"},
		{"an AppID of 33 characters", accounts.Registration{Account: accounts.Account{AppID: strings.Repeat("x", 33)}}, "appid"},
		{"no kind", accounts.Registration{Account: accounts.Account{AppID: "wxa"}}, "kind"},
		{"an unknown subject", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram, Subject: "x"}},
			"subject"},
		{"an unknown version", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram,
			Versions: []accounts.Version{"x"}}}, "versions"},
		{"an unknown role", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram,
			Members: map[string]accounts.Role{"u": "x"}}}, "members"},
		{"an address for a range", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram,
			IPAllowlist: []string{"10.0.0.1"}}}, "ip_allowlist"},
		{"a message URL without host", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram,
			MessageURL: "http:/x"}}, "address"},
		{"a short marketcode key", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram},
			MarketcodeKey: "short"}, "marketcode_key"},
		{"a secret of 257 bytes", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram},
			Secret: strings.Repeat("x", 257)}, "secret"},
		{"another kind than before", accounts.Registration{Account: accounts.Account{AppID: "wxmini", Kind: accounts.ServiceAccount}},
			"kind of an account cannot be changed"},
		{"the AppID of a component", accounts.Registration{Account: accounts.Account{AppID: "wxcomponent", Kind: accounts.MiniProgram}},
			"component's"},
		{"links of a Mini Program", accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram},
			Linked: []string{"wxmini"}}, "linked"},
		{"a link with an unknown account", accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount},
			Linked: []string{"wxunknown"}}, "no account wxunknown"},
		{"a link with a service account", accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount},
			Linked: []string{"wxservice"}}, "not a mini_program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := require.Value(w.List(t.Context(), "", 100))(t)
			assertInvalid(t, "Put", w.Put(t.Context(), c.registration), c.want)
			after := require.Value(w.List(t.Context(), "", 100))(t)
			assertEqual(t, "accounts after the error", after, before)
		})
	}
}

const aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"

func TestDirectory_InvalidComponent(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxmini")
	for _, c := range []struct {
		name      string
		component accounts.Component
		key       string
		want      string // part of the error
	}{
		{"no AppID", accounts.Component{}, aesKey, "appid"},
		{"the AppID of an account", accounts.Component{AppID: "wxmini"}, aesKey, "account's"},
		{"a key of 42 characters", accounts.Component{AppID: "wxc"}, aesKey[1:], "encoding_aes_key"},
		{"a key of 44 characters", accounts.Component{AppID: "wxc"}, aesKey + "E", "encoding_aes_key"},
		{"a key that is no Base64", accounts.Component{AppID: "wxc"}, "-" + aesKey[1:], "encoding_aes_key"},
		{"a grant of an unknown account", accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxunknown"}}}, aesKey,
			"no account wxunknown"},
		{"a permission set 0", accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxmini", PermissionSets: []int{18, 0}}}},
			aesKey, "permission_sets"},
		{"a redirect host with a path", accounts.Component{AppID: "wxc", RedirectHosts: []string{"isv.example/x"}}, aesKey,
			"redirect_hosts"},
		{"an address for a range", accounts.Component{AppID: "wxc", IPAllowlist: []string{"10.0.0.1"}}, aesKey, "ip_allowlist"},
		{"an event URL of another scheme", accounts.Component{AppID: "wxc", EventURL: "ftp://h/"}, aesKey, "address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assertInvalid(t, "PutComponent", w.PutComponent(t.Context(), c.component, "s", "t", c.key), c.want)
		})
	}
}

func TestDirectory_AppIDUniqueAcrossKinds(t *testing.T) {
	w := newFixture(t)
	ok := [2]int{}
	for i, err := range dbtest.Race(16, func(i int) error {
		if i%2 == 0 {
			return w.PutComponent(t.Context(), accounts.Component{AppID: "wxa"}, "s", "t", aesKey)
		}
		return w.Put(t.Context(), accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram}})
	}) {
		if err == nil {
			ok[i%2]++
		}
	}
	assert.True(t, ok == [2]int{8, 0} || ok == [2]int{0, 8}, "%d components, %d accounts created, want 8 of one kind", ok[0], ok[1])
}

func TestDirectoryChange_AllOrNothing(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxa")
	var notified []string
	w.Changed = func(_ context.Context, appids ...string) { notified = append(notified, appids...) }
	require.NoError(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "new"; return nil })))
	failure := errors.New("failure")
	_, err := w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "newer"; return failure })
	assert.ErrorIs(t, err, failure, "Change with a failing function")
	assert.True(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "\x00"; return nil })) != nil,
		"Change to an invalid name succeeded, want an error")
	_, err = w.Change(t.Context(), "wxunknown", func(*accounts.Account) error { return nil })
	assert.ErrorIs(t, err, accounts.ErrNoAccount, "Change of an unknown account")
	a := require.Value(w.Get(t.Context(), "wxa"))(t)
	assertEqual(t, "name", a.Name, "new")
	// Changed is called after a failure too: the response of a successful commit may have been lost.
	assertEqual(t, "notified", notified, []string{"wxa", "wxa", "wxa", "wxunknown"})
}

func TestDirectoryChange_ConcurrentNoLostUpdates(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxa")
	for _, err := range dbtest.Race(32, func(int) error {
		return assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name += "x"; return nil }))
	}) {
		assert.NoError(t, err)
	}
	a := require.Value(w.Get(t.Context(), "wxa"))(t)
	assertEqual(t, "name", a.Name, strings.Repeat("x", 32))
}

func TestDirectory_LinkAndUnlink(t *testing.T) {
	w := newFixture(t)
	for _, appid := range []string{"wxb", "wxa"} {
		w.addMiniProgram(appid)
	}
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount}, Linked: []string{"wxb"}})
	notifications := 0
	w.Changed = func(_ context.Context, appids ...string) {
		if appids[0] == "wxs" {
			notifications++
		}
	}
	links := func(want ...string) {
		t.Helper()
		got := require.Value(w.Links(t.Context(), "wxs"))(t)
		assertEqual(t, "links", got, append([]string{}, want...))
	}
	links("wxb")
	w.setTime(begin.Add(time.Second))
	for range 2 {
		require.NoError(t, w.Link(t.Context(), "wxs", "wxa"))
	}
	links("wxb", "wxa")
	for _, c := range [][2]string{{"wxa", "wxb"}, {"wxs", "wxs"}, {"wxs", "wxunknown"}, {"wxunknown", "wxa"}} {
		assertInvalid(t, "Link with "+c[1], w.Link(t.Context(), c[0], c[1]), "")
	}
	for range 2 {
		require.NoError(t, w.Unlink(t.Context(), "wxs", "wxb"))
	}
	links("wxa")
	assert.True(t, notifications >= 4, "%d notifications of 4 changes, want at least 4", notifications)
}

func TestAccount_JumpRulesEligibility(t *testing.T) {
	for _, c := range []struct {
		name    string
		account accounts.Account
		want    *errcode.Code
	}{
		{"a company's Mini Program may", accounts.Account{Kind: accounts.MiniProgram, Subject: accounts.Company}, errcode.OK},
		{"a government's Mini Program may", accounts.Account{Kind: accounts.MiniProgram, Subject: accounts.Government}, errcode.OK},
		{"a personal Mini Program may not", accounts.Account{Kind: accounts.MiniProgram, Subject: accounts.Personal, Certified: true},
			errcode.PersonalSubject},
		{"a certified service account may", accounts.Account{Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true},
			errcode.OK},
		{"a service account that is not certified may not", accounts.Account{Kind: accounts.ServiceAccount, Subject: accounts.Company},
			errcode.Unauthorized},
		{"a subscription account may not", accounts.Account{Kind: accounts.SubscriptionAccount, Subject: accounts.Company, Certified: true},
			errcode.Unauthorized},
	} {
		t.Run(c.name, func(t *testing.T) { assertEqual(t, "code", code(c.account.JumpRules()), c.want.Number) })
	}
}
