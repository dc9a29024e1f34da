package codes_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// plant is a Press on the real store, with a clock that a test moves.
type plant struct {
	*codes.Service
	t       testing.TB
	dir     string
	writer  *codes.TicketWriter
	store   *store.Store
	owner   accounts.Account
	binding codes.Binding

	mu sync.Mutex
	at time.Time
}

func (p *plant) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *plant) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = p.at.Add(d)
}

func secret(first byte) []byte { return bytes.Repeat([]byte{first}, 32) }

type lockedReader struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

func (r *lockedReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.Read(b)
}

// newPlant has a service account svc with the feature, a Mini Program shop with all versions, and codes from the counter 0.
func newPlant(t testing.TB) *plant {
	t.Helper()
	p := &plant{t: t, dir: storetest.Folder(t), at: time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC),
		binding: codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "6901234567892", WxaAppID: "shop",
			WxaPath: "pages/index/index"}}
	p.open()
	t.Cleanup(func() { p.close() })
	svc := accounts.Account{AppID: "svc", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true,
		Features: []string{codes.Feature}, JumpOpen: true, CreatedAt: p.at}
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true, CreatedAt: p.at,
		Versions: []accounts.Version{accounts.Release, accounts.Trial, accounts.Development},
		Members:  map[string]accounts.Role{"dev": accounts.Developer, "tri": accounts.TrialUser, "adm": accounts.Admin}}
	bare := accounts.Account{AppID: "bare", Kind: accounts.MiniProgram, Subject: accounts.Company, CreatedAt: p.at}
	other := svc
	other.AppID = "other"
	require.NoError(t, p.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		return errors.Join(tx.PutAccount(t.Context(), svc), tx.PutAccount(t.Context(), shop), tx.PutAccount(t.Context(), bare),
			tx.PutAccount(t.Context(), other))
	}))
	p.owner = svc
	return p
}

// visit scans a code as a user and returns the ticket.
func (p *plant) visit(f codes.Found, user string) (string, error) {
	r, err := p.writer.Enqueue(p.t.Context(), codes.CodeScan{Found: f, Scan: "s", At: p.now(), UserHash: "h",
		Namespace: "default", User: user})
	if err != nil {
		return "", err
	}
	return r.Wait(p.t.Context())
}

func (p *plant) open() {
	p.t.Helper()
	s, err := store.Open(context.Background(), store.Target{Dir: p.dir})
	require.NoError(p.t, err)
	key, err := sealer.NewKey(secret(9))
	require.NoError(p.t, err)
	code, err := codes.NewCodeKey(secret(1))
	require.NoError(p.t, err)
	text, err := codes.NewTextKey(secret(2))
	require.NoError(p.t, err)
	p.store = s
	p.Service = &codes.Service{Store: s, Memory: codes.NewMemory(s), Vault: key, OpenIDs: accounts.NewOpenIDs(secret(3)), Now: p.now,
		Keys:     codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
		Settings: settings.NewLive(settings.Defaults()), Random: &lockedReader{source: rand.NewChaCha8([32]byte{1})},
		Prefix: codes.DefaultPrefix}
	p.writer = codes.NewTicketWriter(p.Service)
	p.Changed = func(ctx context.Context, id int64) { assert.NoError(p.t, p.Memory.Changed(ctx, id)) }
	require.NoError(p.t, p.Memory.Load(context.Background()))
}

func (p *plant) close() {
	p.t.Helper()
	assert.NoError(p.t, p.store.Close())
}

func (p *plant) set(change func(*settings.Settings)) {
	s := p.Settings.Get()
	change(&s)
	p.Settings.Set(s)
}

func (p *plant) apply(isv string, count int64) codes.Batch {
	p.t.Helper()
	b, err := p.Apply(p.t.Context(), p.owner, codes.Application{ISV: isv, Count: count})
	require.NoError(p.t, err)
	return b
}

func (p *plant) activate(b codes.Batch, from, to int64) {
	p.t.Helper()
	require.NoError(p.t, p.Activate(accounts.WithActor(p.t.Context(), accounts.Actor{ActorID: p.owner.AppID, RID: "rid"}), p.owner,
		codes.Activation{Batch: b.ID, Range: codes.Range{From: from, To: to}, Binding: p.binding}))
}

var race = dbtest.Race

func wantCode(t testing.TB, what string, err error, want *errcode.Code, detail string) {
	t.Helper()
	code, got := errcode.FromError(err)
	assert.True(t, code == want && strings.Contains(got, detail), "%s: %v %q, want %v %q", what, code, got, want, detail)
}

// A code is issued once: blocks that many ask for at once are disjoint, and so are the codes in them.
func TestApply_ConcurrentBlocksDisjoint(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	list := make([]codes.Batch, 40)
	for _, err := range race(len(list), func(i int) (err error) {
		list[i], err = p.Apply(t.Context(), p.owner, codes.Application{ISV: fmt.Sprint(i), Count: int64(1+i%3) * 10_000})
		return err
	}) {
		require.NoError(t, err)
	}
	slices.SortFunc(list, func(a, b codes.Batch) int { return int(a.ID - b.ID) })
	next := uint64(0)
	seen := map[string]bool{}
	for _, b := range list {
		assert.True(t, b.Start == next, "batch %d begins at %d, want %d: blocks follow each other", b.ID, b.Start, next)
		next = b.Start + uint64(b.Count)
		for _, i := range []int64{0, 1, b.Count - 1} {
			for _, text := range []string{p.Code(b, i), p.Text(b, i)} {
				assert.True(t, !seen[text], "%s was issued twice", text)
				seen[text] = true
			}
		}
	}
}

func TestApply_IdempotentOrderNumber(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	ids := make([]int64, 32)
	for _, err := range race(len(ids), func(i int) error {
		b, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "same", Count: 10_000})
		ids[i] = b.ID
		return err
	}) {
		require.NoError(t, err)
	}
	assert.True(t, len(slices.Compact(ids)) == 1 && len(p.Memory.Batches()) == 1, "one number made the applications %v", ids)
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "same", Count: 20_000})
	wantCode(t, "another count", err, errcode.ApplicationExists, fmt.Sprintf("is application %d with 10000 codes, not 20000", ids[0]))
	b := p.Memory.Batches()
	assert.True(t, len(b) == 1 && b[0].Count == 10_000, "another count: %+v", b)
	other := p.owner
	other.AppID = "other"
	if b, err := p.Apply(t.Context(), other, codes.Application{ISV: "same", Count: 10_000}); err != nil || b.ID == ids[0] {
		t.Errorf("another account's number: %+v, %v", b, err)
	}
}

func TestApply_SpaceExhausted(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.Floor = codes.Space - 15_000
	last := p.apply("last", 10_000)
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "too much", Count: 10_000})
	assert.True(t, err != nil && strings.Contains(err.Error(), "exhausted"), "%v", err)
	f, err := p.Lookup(t.Context(), codes.CodeName{URL: p.Text(last, 9_999)})
	assert.True(t, err == nil && f.Index == 9_999, "%+v, %v", f, err)
}

// Contract: marketcode 7; design 8.
func TestApply_AccountEligibility(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	for name, change := range map[string]func(*accounts.Account){
		"no feature":             func(a *accounts.Account) { a.Features = nil },
		"another feature":        func(a *accounts.Account) { a.Features = []string{"scan"} },
		"not certified":          func(a *accounts.Account) { a.Certified = false },
		"a Mini Program":         func(a *accounts.Account) { a.Kind = accounts.MiniProgram },
		"a subscription account": func(a *accounts.Account) { a.Kind = accounts.SubscriptionAccount },
	} {
		call := p.owner
		change(&call)
		_, err := p.Apply(t.Context(), call, codes.Application{})
		wantCode(t, name+" applies", err, errcode.Unauthorized, "svc")
		_, err = p.Query(t.Context(), call, codes.BatchKey{ID: b.ID})
		wantCode(t, name+" queries", err, errcode.Unauthorized, "svc")
		_, _, err = p.Package(t.Context(), call, b.ID, codes.Range{})
		wantCode(t, name+" downloads", err, errcode.Unauthorized, "svc")
		wantCode(t, name+" activates", p.Activate(t.Context(), call, codes.Activation{Batch: b.ID}), errcode.Unauthorized, "svc")
		_, err = p.Get(t.Context(), call, codes.CodeName{ID: b.ID, HasIndex: true})
		wantCode(t, name+" looks", err, errcode.Unauthorized, "svc")
		_, err = p.Exchange(t.Context(), call, "", "")
		wantCode(t, name+" trades", err, errcode.Unauthorized, "svc")
	}
	p.Closed = true
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "y", Count: 10_000})
	wantCode(t, "without a prefix", err, errcode.Unauthorized, "--code-prefix")
}

// Of another account's batch nothing is told but that it is another's.
func TestBatch_ForeignAccount(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	other := p.owner
	other.AppID = "other"
	for name, code := range map[string]codes.CodeName{
		"by index": {ID: b.ID, HasIndex: true}, "without an index": {ID: b.ID}, "behind the end": {ID: b.ID, Index: 10_000, HasIndex: true},
		"by code": {Code: p.Code(b, 0)}, "by text": {URL: p.Text(b, 0)}, "by text, with a wrong id": {URL: p.Text(b, 0), ID: 7},
	} {
		_, err := p.Get(t.Context(), other, code)
		wantCode(t, name, err, errcode.NotOwnApplication, "another account's")
	}
	_, err := p.Get(t.Context(), other, codes.CodeName{ID: b.ID + 1})
	wantCode(t, "unknown", err, errcode.NoApplication, "")
	_, err = p.Query(t.Context(), other, codes.BatchKey{ISV: "x"})
	wantCode(t, "by the other's order number", err, errcode.NoApplication, "")
}

// An acknowledged ticket, activation and batch are in the database.
func TestPress_DurableAfterReopen(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 200)
	f, err := p.Lookup(t.Context(), codes.CodeName{ID: b.ID, Index: 7, HasIndex: true})
	require.NoError(t, err)
	ticket, err := p.visit(f, "u-1")
	require.NoError(t, err)
	login, err := p.Login(t.Context(), "shop", "default", "u-1")
	require.NoError(t, err)
	p.close()
	p.open()
	assert.NoError(t, p.CheckKeys(t.Context()))
	for _, openid := range []string{p.OpenIDs.OpenID("default", "svc", "u-1"), p.OpenIDs.OpenID("default", "shop", "u-1")} {
		got, err := p.Exchange(t.Context(), p.owner, openid, ticket)
		assert.True(t, err == nil && got.Code == f.Code && got.State.Activation.Binding == p.binding &&
			got.State.Activation.Codes.Bounds() == (codes.Range{From: 0, To: 200}), "%+v, %v", got, err)
	}
	openid, err := p.ExchangeLoginCode(t.Context(), "shop", login)
	assert.True(t, err == nil && openid.OpenID == p.OpenIDs.OpenID("default", "shop", "u-1"), "%s, %v", openid.OpenID, err)
	assert.Equal(t, p.apply("y", 10_000).Start, 10_000, "the next block begins at")
	// With other keys the server must not start.
	other, err := codes.NewCodeKey(secret(4))
	require.NoError(t, err)
	keys := p.Keys
	p.Keys.Code = other
	err = p.CheckKeys(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "other code keys"), "another key: %v", err)
	p.Keys = keys
	p.Keys.Text = nil
	err = p.CheckKeys(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "missing"), "no key: %v", err)
}

// Of 32 trades of one js_code one wins.
func TestJSCodeTrade_ConcurrentOnce(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	code, err := p.Login(t.Context(), "shop", "default", "u-1")
	require.NoError(t, err)
	won := 0
	for _, err := range race(32, func(int) error { _, err := p.ExchangeLoginCode(t.Context(), "shop", code); return err }) {
		if err == nil {
			won++
		} else {
			wantCode(t, "a later trade", err, errcode.LoginCodeUsed, "")
		}
	}
	assert.Equal(t, won, 1, "trades won")
}

// An expired ticket is forgotten a day later, not before: an old ticket and a made up one answer the same.
func TestTicketPurge_OneDayAfterExpiry(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	f, err := p.Lookup(t.Context(), codes.CodeName{ID: b.ID, HasIndex: true})
	require.NoError(t, err)
	scan := func() string {
		text, err := p.visit(f, "u")
		require.NoError(t, err)
		return text
	}
	openid := p.OpenIDs.OpenID("default", "svc", "u")
	kept := func(text string) bool {
		err := p.Store.ViewCodes(t.Context(), func(tx codes.Tx) error {
			_, err := tx.Ticket(t.Context(), p.Vault.Hash("code_ticket", text))
			return err
		})
		require.True(t, err == nil || errors.Is(err, codes.ErrNoTicket), "%v", err)
		return err == nil
	}
	first := scan()
	p.advance(30*time.Minute - time.Millisecond)
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, first)), "a moment before the end")
	p.advance(time.Millisecond)
	_, err = p.Exchange(t.Context(), p.owner, openid, first)
	wantCode(t, "30 minutes", err, errcode.InvalidArgs, "无效的code_ticket或与openid不对应")
	p.advance(24 * time.Hour)
	scan()
	assert.True(t, kept(first), "forgotten within a day")
	// It is looked for once a minute, not with every scan.
	p.advance(time.Minute)
	scan()
	assert.True(t, !kept(first), "kept for ever")
}

// After a rest many tickets have expired. No scan removes all of them in its
// own transaction, which has ten seconds, and none are left in the end.
func TestTicketPurge_Incremental(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
	p.activate(b, 0, 9)
	f := p.found(b, 0)
	require.NoError(t, assert.ErrorOf(p.visit(f, "u")))
	old := make([]codes.Ticket, 2_500)
	for i := range old {
		old[i] = codes.Ticket{Hash: fmt.Sprintf("%064x", i), Batch: b.ID, OwnerID: "o", AppID: "shop", AppUserID: "u", ScannedAt: p.now(),
			ExpiresAt: p.now()}
	}
	require.NoError(t, p.Store.UpdateCodes(t.Context(), func(tx codes.Tx) error { return tx.PutTickets(t.Context(), old) }))
	left := func() (n int) {
		require.NoError(t, p.Store.ViewCodes(t.Context(), func(tx codes.Tx) error {
			n = 0
			for _, k := range old {
				switch _, err := tx.Ticket(t.Context(), k.Hash); {
				case err == nil:
					n++
				case !errors.Is(err, codes.ErrNoTicket):
					return err
				}
			}
			return nil
		}))
		return n
	}
	p.advance(30 * time.Hour)
	for n, want := range []int{2_500 - 1_024 + 1, 2_500 - 2*1_024 + 1, 0} {
		require.NoError(t, assert.ErrorOf(p.visit(f, "u")))
		// The one of the first scan goes with them, whichever is first.
		got := left()
		assert.True(t, got <= want && got >= want-1, "after scan %d: %d are left, want %d", n+1, got, want)
	}
}
