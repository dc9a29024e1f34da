package codes_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

// fixture is a Service on a real store with a clock that the test advances.
type fixture struct {
	*codes.Service
	t       testing.TB
	dir     string
	writer  *codes.TicketWriter
	store   *store.Store
	owner   accounts.Account
	binding codes.Binding

	mu   sync.Mutex
	time time.Time
}

func (p *fixture) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.time
}

func (p *fixture) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.time = p.time.Add(d)
}

func secret(first byte) []byte { return bytes.Repeat([]byte{first}, 32) }

// newFixture returns a Service with the service account svc, which has the feature, and the Mini Program shop, which has all versions.
// The first code has the counter 0.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	p := &fixture{t: t, dir: storetest.Folder(t), time: time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC),
		binding: codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "6901234567892", WxaAppID: "shop",
			WxaPath: "pages/index/index"}}
	p.open()
	t.Cleanup(func() { p.close() })
	svc := accounts.Account{AppID: "svc", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true,
		Features: []string{codes.Feature}, JumpOpen: true, CreatedAt: p.time}
	shop := accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true, CreatedAt: p.time,
		Versions: []accounts.Version{accounts.Release, accounts.Trial, accounts.Development},
		Members:  map[string]accounts.Role{"dev": accounts.Developer, "tri": accounts.TrialUser, "adm": accounts.Admin}}
	bare := accounts.Account{AppID: "bare", Kind: accounts.MiniProgram, Subject: accounts.Company, CreatedAt: p.time}
	other := svc
	other.AppID = "other"
	require.NoError(t, p.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		return errors.Join(tx.PutAccount(t.Context(), svc), tx.PutAccount(t.Context(), shop), tx.PutAccount(t.Context(), bare),
			tx.PutAccount(t.Context(), other))
	}))
	p.owner = svc
	return p
}

// issueTicket scans a code as user and returns the ticket.
func (p *fixture) issueTicket(f codes.Found, user string) string {
	p.t.Helper()
	r := require.Value(p.writer.Enqueue(p.t.Context(), codes.CodeScan{Found: f, Scan: "s", At: p.now(), UserHash: "h",
		Namespace: "default", User: user}))(p.t)
	return require.Value(r.Wait(p.t.Context()))(p.t)
}

func (p *fixture) open() {
	p.t.Helper()
	s := require.Value(store.Open(context.Background(), store.Target{Dir: p.dir}))(p.t)
	key, keyErr := sealer.NewKey(secret(9))
	code, codeErr := codes.NewCodeKey(secret(1))
	text, textErr := codes.NewTextKey(secret(2))
	require.NoError(p.t, errors.Join(keyErr, codeErr, textErr))
	p.store = s
	p.Service = &codes.Service{Store: s, Memory: codes.NewMemory(s), Vault: key, OpenIDs: accounts.NewOpenIDs(secret(3)), Now: p.now,
		Keys:     codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
		Settings: settings.NewLive(settings.Defaults()), Random: rand.Reader,
		Prefix: codes.DefaultPrefix}
	p.writer = codes.NewTicketWriter(p.Service)
	p.Changed = func(ctx context.Context, id int64) { assert.NoError(p.t, p.Memory.Changed(ctx, id)) }
	require.NoError(p.t, p.Memory.Load(context.Background()))
}

func (p *fixture) close() {
	p.t.Helper()
	assert.NoError(p.t, p.store.Close())
}

// allowOverlap lets activations overlap.
func (p *fixture) allowOverlap() {
	s := p.Settings.Get()
	s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
	p.Settings.Set(s)
}

// reloadMemory returns a new Memory with the contents of the store.
func (p *fixture) reloadMemory() *codes.Memory {
	p.t.Helper()
	m := codes.NewMemory(p.Store)
	require.NoError(p.t, m.Load(p.t.Context()))
	return m
}

func (p *fixture) apply(isv string, count int64) codes.Batch {
	p.t.Helper()
	return require.Value(p.Apply(p.t.Context(), p.owner, codes.Application{ISV: isv, Count: count}))(p.t)
}

func (p *fixture) activate(b codes.Batch, from, to int64) {
	p.t.Helper()
	require.NoError(p.t, p.Activate(accounts.WithActor(p.t.Context(), accounts.Actor{ActorID: p.owner.AppID, RID: "rid"}), p.owner,
		codes.Activation{Batch: b.ID, Range: codes.Range{From: from, To: to}, Binding: p.binding}))
}

// newBatch returns a fixture with an application for 10,000 codes, and activates the first n codes.
func newBatch(t testing.TB, n int64) (*fixture, codes.Batch) {
	t.Helper()
	p := newFixture(t)
	b := p.apply("x", 10_000)
	if n > 0 {
		p.activate(b, 0, n-1)
	}
	return p, b
}

// assertCode fails the test unless err has the error code want and a text that contains detail.
func assertCode(t testing.TB, name string, err error, want *errcode.Code, detail string) {
	t.Helper()
	code, got := errcode.FromError(err)
	assert.True(t, code == want && strings.Contains(got, detail), "%s: %v %q, want %v %q", name, code, got, want, detail)
}

// TestApply_ConcurrentBlocksDisjoint verifies that concurrent applications get consecutive blocks and that each code is issued once.
func TestApply_ConcurrentBlocksDisjoint(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	list := make([]codes.Batch, 40)
	for _, err := range dbtest.Race(len(list), func(i int) (err error) {
		list[i], err = p.Apply(t.Context(), p.owner, codes.Application{ISV: fmt.Sprint(i), Count: int64(1+i%3) * 10_000})
		return err
	}) {
		require.NoError(t, err)
	}
	slices.SortFunc(list, func(a, b codes.Batch) int { return int(a.ID - b.ID) })
	next := uint64(0)
	seen := map[string]bool{}
	for _, b := range list {
		assert.True(t, b.Start == next, "batch %d begins at %d, want %d, the end of the block before", b.ID, b.Start, next)
		next = b.Start + uint64(b.Count)
		for _, i := range []int64{0, 1, b.Count - 1} {
			for _, text := range []string{p.Code(b, i), p.Text(b, i)} {
				assert.True(t, !seen[text], "%s was issued twice, want once", text)
				seen[text] = true
			}
		}
	}
}

func TestApply_IdempotentOrderNumber(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	ids := make([]int64, 32)
	for _, err := range dbtest.Race(len(ids), func(i int) error {
		b, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "same", Count: 10_000})
		ids[i] = b.ID
		return err
	}) {
		require.NoError(t, err)
	}
	assert.True(t, len(slices.Compact(ids)) == 1 && len(p.Memory.Batches()) == 1, "one order number created the applications %v, want one",
		ids)
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "same", Count: 20_000})
	assertCode(t, "another count", err, errcode.ApplicationExists, fmt.Sprintf("is application %d with 10000 codes, not 20000", ids[0]))
	b := p.Memory.Batches()
	assert.True(t, len(b) == 1 && b[0].Count == 10_000, "batches after another count: %+v, want one of 10000 codes", b)
	other := p.owner
	other.AppID = "other"
	if b, err := p.Apply(t.Context(), other, codes.Application{ISV: "same", Count: 10_000}); err != nil || b.ID == ids[0] {
		t.Errorf("same order number of another account: %+v, %v, want a new application", b, err)
	}
}

func TestApply_SpaceExhausted(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.Floor = codes.Space - 15_000
	last := p.apply("last", 10_000)
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "too much", Count: 10_000})
	assert.True(t, err != nil && strings.Contains(err.Error(), "exhausted"), "application beyond the space: %v, want exhausted", err)
	f, err := p.Lookup(t.Context(), codes.CodeName{URL: p.Text(last, 9_999)})
	assert.True(t, err == nil && f.Index == 9_999, "last code: %+v, %v, want index 9999", f, err)
}

// Contract: marketcode 7; design 8.
func TestApply_AccountEligibility(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
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
		assertCode(t, name+" applies", err, errcode.Unauthorized, "svc")
		_, err = p.Query(t.Context(), call, codes.BatchKey{ID: b.ID})
		assertCode(t, name+" queries", err, errcode.Unauthorized, "svc")
		_, _, err = p.Package(t.Context(), call, b.ID, codes.Range{})
		assertCode(t, name+" downloads", err, errcode.Unauthorized, "svc")
		assertCode(t, name+" activates", p.Activate(t.Context(), call, codes.Activation{Batch: b.ID}), errcode.Unauthorized, "svc")
		_, err = p.Get(t.Context(), call, codes.CodeName{ID: b.ID, HasIndex: true})
		assertCode(t, name+" gets a code", err, errcode.Unauthorized, "svc")
		_, err = p.Exchange(t.Context(), call, "", "")
		assertCode(t, name+" exchanges a ticket", err, errcode.Unauthorized, "svc")
	}
	p.Closed = true
	_, err := p.Apply(t.Context(), p.owner, codes.Application{ISV: "y", Count: 10_000})
	assertCode(t, "without a prefix", err, errcode.Unauthorized, "--code-prefix")
}

// TestBatch_ForeignAccount verifies that a call for another account's batch discloses only that the batch belongs to another account.
func TestBatch_ForeignAccount(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	other := p.owner
	other.AppID = "other"
	for name, code := range map[string]codes.CodeName{
		"by index": {ID: b.ID, HasIndex: true}, "without an index": {ID: b.ID}, "after the end": {ID: b.ID, Index: 10_000, HasIndex: true},
		"by code": {Code: p.Code(b, 0)}, "by text": {URL: p.Text(b, 0)}, "by text, with a wrong id": {URL: p.Text(b, 0), ID: 7},
	} {
		_, err := p.Get(t.Context(), other, code)
		assertCode(t, name, err, errcode.NotOwnApplication, "another account's")
	}
	_, err := p.Get(t.Context(), other, codes.CodeName{ID: b.ID + 1})
	assertCode(t, "unknown", err, errcode.NoApplication, "")
	_, err = p.Query(t.Context(), other, codes.BatchKey{ISV: "x"})
	assertCode(t, "by the other's order number", err, errcode.NoApplication, "")
}

// TestExchange_ChangeOnOtherNode verifies that the exchange of a ticket reads the changes that another node has acknowledged.
func TestExchange_ChangeOnOtherNode(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 100)
	second := &codes.Service{Store: p.store, Memory: p.reloadMemory(), Vault: p.Vault, OpenIDs: p.OpenIDs, Now: p.now, Keys: p.Keys,
		Settings: p.Settings, Random: p.Random, Prefix: p.Prefix, Shared: true}
	p.activate(b, 200, 299)
	openid := p.OpenIDs.OpenID("default", "svc", "u")
	ticket := p.issueTicket(p.lookup(b, 250), "u")
	assert.NoErrorf(t, assert.ErrorOf(second.Exchange(t.Context(), p.owner, openid, ticket)), "a code that was activated on the first node")
	require.NoError(t, p.change(b, codes.Void, single(250)))
	assertCode(t, "a code that was voided on the first node", assert.ErrorOf(second.Exchange(t.Context(), p.owner, openid, ticket)),
		errcode.InvalidArgs, "")
}

// TestPress_DurableAfterReopen reopens the store and verifies that acknowledged tickets, login codes, activations and batches survive, and
// that CheckKeys rejects other or missing keys.
func TestPress_DurableAfterReopen(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 201)
	f := p.lookup(b, 7)
	ticket := p.issueTicket(f, "u-1")
	login := require.Value(p.Login(t.Context(), "shop", "default", "u-1"))(t)
	p.close()
	p.open()
	assert.NoError(t, p.CheckKeys(t.Context()))
	for _, openid := range []string{p.OpenIDs.OpenID("default", "svc", "u-1"), p.OpenIDs.OpenID("default", "shop", "u-1")} {
		got, err := p.Exchange(t.Context(), p.owner, openid, ticket)
		assert.True(t, err == nil && got.Code == f.Code && got.State.Activation.Binding == p.binding &&
			got.State.Activation.Codes.Bounds() == (codes.Range{From: 0, To: 200}), "ticket after reopening: %+v, %v", got, err)
	}
	openid, err := p.ExchangeLoginCode(t.Context(), "shop", login)
	assert.True(t, err == nil && openid.OpenID == p.OpenIDs.OpenID("default", "shop", "u-1"), "login code after reopening: %s, %v",
		openid.OpenID, err)
	assert.Equal(t, p.apply("y", 10_000).Start, 10_000, "start of the next block")
	// A server with other keys must not start.
	anotherKey := require.Value(codes.NewCodeKey(secret(4)))(t)
	keys := p.Keys
	p.Keys.Code = anotherKey
	err = p.CheckKeys(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "other code keys"), "CheckKeys with another code key = %v", err)
	p.Keys = keys
	p.Keys.Text = nil
	err = p.CheckKeys(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "missing"), "CheckKeys without text keys = %v", err)
}

// TestJSCodeTrade_ConcurrentOnce verifies that one of 32 concurrent exchanges of a js_code succeeds.
func TestJSCodeTrade_ConcurrentOnce(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	code := require.Value(p.Login(t.Context(), "shop", "default", "u-1"))(t)
	succeeded := 0
	for _, err := range dbtest.Race(32, func(int) error { _, err := p.ExchangeLoginCode(t.Context(), "shop", code); return err }) {
		if err == nil {
			succeeded++
		} else {
			assertCode(t, "a later exchange", err, errcode.LoginCodeUsed, "")
		}
	}
	assert.Equal(t, succeeded, 1, "successful exchanges")
}

// TestTicketPurge_OneDayAfterExpiry verifies that an expired ticket is deleted one day after its expiry and no earlier, and that an
// exchange of it returns the same error as one of an invalid ticket.
func TestTicketPurge_OneDayAfterExpiry(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	f := p.lookup(b, 0)
	openid := p.OpenIDs.OpenID("default", "svc", "u")
	exists := func(text string) bool {
		err := p.Store.ViewCodes(t.Context(), func(tx codes.Tx) error {
			_, err := tx.Ticket(t.Context(), p.Vault.Hash("code_ticket", text))
			return err
		})
		require.True(t, err == nil || errors.Is(err, codes.ErrNoTicket), "Ticket: %v, want nil or ErrNoTicket", err)
		return err == nil
	}
	first := p.issueTicket(f, "u")
	p.advance(30*time.Minute - time.Millisecond)
	assert.NoErrorf(t, assert.ErrorOf(p.Exchange(t.Context(), p.owner, openid, first)), "one millisecond before the expiry")
	p.advance(time.Millisecond)
	_, err := p.Exchange(t.Context(), p.owner, openid, first)
	assertCode(t, "30 minutes", err, errcode.InvalidArgs, "无效的code_ticket或与openid不对应")
	p.advance(24 * time.Hour)
	p.issueTicket(f, "u")
	assert.True(t, exists(first), "expired ticket was deleted within a day, want it kept")
	// Scans purge at most once a minute.
	p.advance(time.Minute)
	p.issueTicket(f, "u")
	assert.True(t, !exists(first), "expired ticket exists after a day and a minute, want it deleted")
}

// TestTicketPurge_Incremental expires 2,500 tickets and verifies that each scan deletes a bounded number of them, because its transaction
// is limited to ten seconds, and that later scans delete the rest.
func TestTicketPurge_Incremental(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 10)
	f := p.lookup(b, 0)
	p.issueTicket(f, "u")
	old := make([]codes.Ticket, 2_500)
	for i := range old {
		old[i] = codes.Ticket{Hash: fmt.Sprintf("%064x", i), Batch: b.ID, OwnerID: "o", AppID: "shop", AppUserID: "u", ScannedAt: p.now(),
			ExpiresAt: p.now()}
	}
	require.NoError(t, p.Store.UpdateCodes(t.Context(), func(tx codes.Tx) error { return tx.PutTickets(t.Context(), old) }))
	count := func() (n int) {
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
		p.issueTicket(f, "u")
		// The ticket of the first scan is deleted too, at any position.
		got := count()
		assert.True(t, got <= want && got >= want-1, "after scan %d: %d tickets remain, want %d", n+1, got, want)
	}
}
