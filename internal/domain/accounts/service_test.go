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
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// zone is where the days of the platform begin.
var zone = time.FixedZone("", 8*3600)

// begin is in the middle of a day and of a minute.
var begin = time.Date(2026, 1, 31, 12, 0, 30, 0, zone)

// world is a directory on a real store with a clock that stands still.
type world struct {
	*accounts.Service
	t     *testing.T
	store *store.Store
	dir   string
	mu    sync.Mutex
	now   time.Time
}

func newKey(t testing.TB) *sealer.Key {
	t.Helper()
	key, err := sealer.NewKey([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	return key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := storetest.Folder(t)
	s, err := store.Open(t.Context(), store.Target{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w := &world{t: t, store: s, dir: dir, now: begin}
	w.Service = &accounts.Service{Store: s, Epochs: s.Epochs(), Key: newKey(t), Settings: settings.NewLive(settings.Defaults()),
		Minutes: new(apiusage.Minutes).Allow, Random: rand.Reader, Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		}}
	return w
}

func (w *world) set(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

func (w *world) put(r accounts.Registration) {
	w.t.Helper()
	if r.Kind == "" {
		r.Kind = accounts.MiniProgram
	}
	require.NoError(w.t, w.Put(w.t.Context(), r))
}

// mini makes a Mini Program with the secret "secret of APPID".
func (w *world) mini(appid string) accounts.Credentials {
	w.t.Helper()
	w.put(accounts.Registration{Account: accounts.Account{AppID: appid}, Secret: "secret of " + appid})
	return credentials(appid)
}

func credentials(appid string) accounts.Credentials {
	return accounts.Credentials{GrantType: "client_credential", AppID: appid, Secret: "secret of " + appid,
		IP: netip.MustParseAddr("203.0.113.1")}
}

// plain and stable fetch a token, which must succeed.
func (w *world) plain(c accounts.Credentials) accounts.Issued {
	w.t.Helper()
	issued, err := w.IssueToken(w.t.Context(), c)
	require.NoError(w.t, err)
	return issued
}

func (w *world) stable(c accounts.Credentials, force bool) accounts.Issued {
	w.t.Helper()
	issued, err := w.StableToken(w.t.Context(), c, force)
	require.NoError(w.t, err)
	return issued
}

// code is the number that a caller of the wire would see; 0 = ok.
func code(err error) int {
	c, _ := errcode.FromError(err)
	return c.Number
}

// answers is what a call with the token would be answered.
func (w *world) answers(text string) int {
	w.t.Helper()
	_, err := w.AuthenticateWithin(w.t.Context(), text, nil)
	return code(err)
}

func (w *world) wantAnswer(what, text string, want int) {
	w.t.Helper()
	assert.Equal(w.t, w.answers(text), want, "%s, %s", w.now.Format(time.StampMilli), what)
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	assert.Equal(t, cmp.Diff(want, got), "", "%s (-want +got)", what)
}

func TestDirectory_AccountImmutableFields(t *testing.T) {
	w := newWorld(t)
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxa", Name: "first"}, Secret: "s", MarketcodeKey: "0123456789abcdef"})
	first, err := w.Get(t.Context(), "wxa")
	require.NoError(t, err)
	same(t, "subject that nobody named", first.Subject, accounts.Company)
	same(t, "day of creation", first.CreatedAt, begin)
	name, content := first.Confirm.Name, first.Confirm.Content
	assert.True(t, len(name) == 14 && strings.HasSuffix(name, ".txt") && len(content) == 32, "verification file: %q with %q", name, content)
	w.set(begin.Add(time.Hour))
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxa", Name: "second", Confirm: accounts.ConfirmFile{Name: "mine.txt"}}})
	second, err := w.Get(t.Context(), "wxa")
	require.NoError(t, err)
	want := first
	want.Name = "second"
	same(t, "replaced without secrets", second, want)

	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxa"}, Secret: "other"})
	third, err := w.Get(t.Context(), "wxa")
	require.NoError(t, err)
	assert.True(t, third.SecretHash != first.SecretHash && third.MarketcodeKey == first.MarketcodeKey,
		"a new secret alone changes the secret alone")
}

func TestDirectory_InvalidAccount(t *testing.T) {
	w := newWorld(t)
	w.mini("wxmini")
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxservice", Kind: accounts.ServiceAccount}})
	require.NoError(t, w.PutComponent(t.Context(), accounts.Component{AppID: "wxcomponent"}, "s", "t", aesKey))
	for _, c := range []struct {
		name  string
		given accounts.Registration
		says  string
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
		{"a link with nobody", accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount},
			Linked: []string{"wxnobody"}}, "no account wxnobody"},
		{"a link with a service account", accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount},
			Linked: []string{"wxservice"}}, "not a mini_program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := w.List(t.Context(), "", 100)
			require.NoError(t, err)
			err = w.Put(t.Context(), c.given)
			_, ok := errors.AsType[accounts.Invalid](err)
			assert.True(t, ok && strings.Contains(err.Error(), c.says), "error: %v, want one that says %q", err, c.says)
			after, err := w.List(t.Context(), "", 100)
			require.NoError(t, err)
			same(t, "accounts after the refusal", after, before)
		})
	}
}

const aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"

func TestDirectory_InvalidComponent(t *testing.T) {
	w := newWorld(t)
	w.mini("wxmini")
	for _, c := range []struct {
		name  string
		given accounts.Component
		key   string
		says  string
	}{
		{"no AppID", accounts.Component{}, aesKey, "appid"},
		{"the AppID of an account", accounts.Component{AppID: "wxmini"}, aesKey, "account's"},
		{"a key of 42 characters", accounts.Component{AppID: "wxc"}, aesKey[1:], "encoding_aes_key"},
		{"a key of 44 characters", accounts.Component{AppID: "wxc"}, aesKey + "E", "encoding_aes_key"},
		{"a key that is no Base64", accounts.Component{AppID: "wxc"}, "-" + aesKey[1:], "encoding_aes_key"},
		{"a grant of nobody", accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxnobody"}}}, aesKey,
			"no account wxnobody"},
		{"a permission set 0", accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxmini", PermissionSets: []int{18, 0}}}},
			aesKey, "permission_sets"},
		{"a redirect host with a path", accounts.Component{AppID: "wxc", RedirectHosts: []string{"isv.example/x"}}, aesKey,
			"redirect_hosts"},
		{"an address for a range", accounts.Component{AppID: "wxc", IPAllowlist: []string{"10.0.0.1"}}, aesKey, "ip_allowlist"},
		{"an event URL of another scheme", accounts.Component{AppID: "wxc", EventURL: "ftp://h/"}, aesKey, "address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := w.PutComponent(t.Context(), c.given, "s", "t", c.key)
			_, ok := errors.AsType[accounts.Invalid](err)
			assert.True(t, ok && strings.Contains(err.Error(), c.says), "error: %v, want one that says %q", err, c.says)
		})
	}
}

func TestDirectory_AppIDUniqueAcrossKinds(t *testing.T) {
	w := newWorld(t)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				errs[i] = w.PutComponent(t.Context(), accounts.Component{AppID: "wxa"}, "s", "t", aesKey)
			} else {
				errs[i] = w.Put(t.Context(), accounts.Registration{Account: accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram}})
			}
		})
	}
	wg.Wait()
	ok := [2]int{}
	for i, err := range errs {
		if err == nil {
			ok[i%2]++
		}
	}
	assert.True(t, ok == [2]int{8, 0} || ok == [2]int{0, 8}, "%d times a component, %d times an account", ok[0], ok[1])
}

func TestDirectoryChange_AllOrNothing(t *testing.T) {
	w := newWorld(t)
	w.mini("wxa")
	var told []string
	w.Changed = func(_ context.Context, appids ...string) { told = append(told, appids...) }
	require.NoError(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "new"; return nil })))
	refused := errors.New("refused")
	_, err := w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "newer"; return refused })
	assert.True(t, errors.Is(err, refused), "a function that fails: %v", err)
	assert.True(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name = "\x00"; return nil })) != nil,
		"a change to what cannot be was saved")
	_, err = w.Change(t.Context(), "wxnobody", func(*accounts.Account) error { return nil })
	assert.True(t, errors.Is(err, accounts.ErrNoAccount), "of nobody: %v", err)
	a, err := w.Get(t.Context(), "wxa")
	require.NoError(t, err)
	same(t, "name", a.Name, "new")
	// Told after a failure, too: an error may hide a commit whose answer was lost.
	same(t, "told", told, []string{"wxa", "wxa", "wxa", "wxnobody"})
}

func TestDirectoryChange_ConcurrentNoLostUpdates(t *testing.T) {
	w := newWorld(t)
	w.mini("wxa")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			assert.NoError(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { a.Name += "x"; return nil })))
		})
	}
	wg.Wait()
	a, err := w.Get(t.Context(), "wxa")
	require.NoError(t, err)
	same(t, "name", a.Name, strings.Repeat("x", 32))
}

func TestDirectory_LinkAndUnlink(t *testing.T) {
	w := newWorld(t)
	for _, appid := range []string{"wxb", "wxa"} {
		w.mini(appid)
	}
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount}, Linked: []string{"wxb"}})
	told := 0
	w.Changed = func(_ context.Context, appids ...string) {
		appid := appids[0]
		if appid == "wxs" {
			told++
		}
	}
	links := func(want ...string) {
		t.Helper()
		got, err := w.Links(t.Context(), "wxs")
		require.NoError(t, err)
		same(t, "links", got, append([]string{}, want...))
	}
	links("wxb")
	w.set(begin.Add(time.Second))
	for range 2 {
		require.NoError(t, w.Link(t.Context(), "wxs", "wxa"))
	}
	links("wxb", "wxa")
	for _, c := range [][2]string{{"wxa", "wxb"}, {"wxs", "wxs"}, {"wxs", "wxnobody"}, {"wxnobody", "wxa"}} {
		_, ok := errors.AsType[accounts.Invalid](w.Link(t.Context(), c[0], c[1]))
		assert.True(t, ok, "%s was linked with %s", c[0], c[1])
	}
	for range 2 {
		require.NoError(t, w.Unlink(t.Context(), "wxs", "wxb"))
	}
	links("wxa")
	assert.True(t, told >= 4, "told %d times of 4 changes", told)
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
		t.Run(c.name, func(t *testing.T) { same(t, "code", code(c.account.JumpRules()), c.want.Number) })
	}
}
