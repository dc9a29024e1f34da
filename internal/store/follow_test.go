package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// follower is a node that only answers scans.
func follower(t *testing.T, s *Store) *replica.Replica {
	t.Helper()
	c := &replica.Replica{Rules: index.New(), Accounts: replica.NewAccounts(), Codes: codes.NewMemory(s), RuleStore: s, AccountStore: s,
		Log: slog.New(slog.DiscardHandler), Changes: s, Handlers: map[string]func(context.Context, string) error{}}
	require.NoError(t, c.Load(t.Context()))
	return c
}

// pathOf is the page that a link of a rule opens as a node knows it; "" = none.
func pathOf(c *replica.Replica, text string) string {
	link, _ := rules.ParseLink(text)
	for _, r := range c.Rules.Matching(link) {
		return r.Path
	}
	return ""
}

// storedPath is the same as the store knows it.
func storedPath(t *testing.T, s *Store, key string) (path string) {
	t.Helper()
	view(t, s, func(ctx context.Context, tx *Tx) error {
		found, err := tx.rules().RulesAt(ctx, []string{key})
		for _, r := range found {
			path = r.Path
		}
		return err
	})
	return path
}

func catchUp(t *testing.T, c *replica.Replica) {
	t.Helper()
	require.NoError(t, c.CatchUp(t.Context()))
}

func TestFollow_OtherNodeCommits(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		c := follower(t, nodes[1])
		catchUp(t, c)
		r := addRules(t, nodes[0], aRule(t, "wxa", "https://h.example/"))[0]
		want(t, "before", pathOf(c, "https://h.example/1"), "")
		catchUp(t, c)
		want(t, "added", pathOf(c, "https://h.example/1"), "p")
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			for n := range 3 {
				r.Path = fmt.Sprint("p", n)
				if err := tx.rules().PutRule(ctx, r, someone); err != nil {
					return err
				}
			}
			return tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxs", Name: "S"})
		})
		catchUp(t, c)
		want(t, "edited", pathOf(c, "https://h.example/1"), "p2")
		a, known := c.Accounts.Account("wxs")
		want(t, "account", a.Name, "S")
		want(t, "account known", known, true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().PutLink(ctx, "wxs", "wxm", at) })
		catchUp(t, c)
		want(t, "linked", c.Accounts.Linked("wxs", "wxm"), true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
		catchUp(t, c)
		want(t, "unlinked", c.Accounts.Linked("wxs", "wxm"), false)
		var batch codes.Batch
		update(t, nodes[0], func(ctx context.Context, tx *Tx) (err error) {
			if err := tx.accounts().DeleteAccount(ctx, "wxs"); err != nil {
				return err
			}
			if err := tx.rules().DeleteRule(ctx, r, someone); err != nil {
				return err
			}
			batch, err = tx.codes().AddBatch(ctx, codes.Batch{Account: "wxs", Count: 10, Version: '0', Start: 7})
			return err
		})
		catchUp(t, c)
		_, known = c.Accounts.Account("wxs")
		want(t, "account known", known, false)
		want(t, "deleted", pathOf(c, "https://h.example/1"), "")
		_, known = c.Codes.Batch(batch.ID)
		want(t, "batch known", known, true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			_, err := tx.codes().AddEvent(ctx, codes.Event{Batch: batch.ID, Action: codes.Freeze,
				Codes:      codes.NewSet(codes.Range{From: 3, To: 3}),
				OccurredAt: at, From: at})
			return err
		})
		catchUp(t, c)
		want(t, "frozen", c.Codes.State(batch.ID, 3, at).Frozen, true)

		lag, err := c.Lag(t.Context())
		require.NoError(t, err)
		want(t, "lag", lag, 0)
		addRules(t, nodes[0], aRule(t, "wxa", "https://i.example/"), aRule(t, "wxa", "https://j.example/"))
		lag, err = c.Lag(t.Context())
		require.NoError(t, err)
		want(t, "lag", lag, 2)
	})
}

// A change that finds its result made by another node writes nothing; the scans of its node see the result all the same.
func TestRefreshRule_ChangeOfOtherNodeSeen(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		r := addRules(t, nodes[0], aRule(t, "wxa", "https://h.example/"))[0]
		c := follower(t, nodes[1])
		change := func() {
			t.Helper()
			assert.NoError(t, nodes[1].ChangeRules(t.Context(), "wxa", r.Prefix.Origin(), func(tx rules.Tx) error {
				_, err := tx.RulesAt(t.Context(), []string{r.Prefix.Key})
				return err
			}))
			c.RefreshRule(t.Context(), r.Prefix.Key)
		}
		change()
		r.Path = "p2"
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, r, someone) })
		change()
		want(t, "page of the rule", pathOf(c, "https://h.example/1"), "p2")
	})
}

func TestFollow_ReloadOnReplacedLog(t *testing.T) {
	for name, happens := range map[string]func(t *testing.T, s *Store){
		"a reset": func(t *testing.T, s *Store) { require.NoError(t, s.Reset(t.Context())) },
		// A failover to a copy that had not seen the last commits, of which the number was given out again.
		"the last commit is lost": func(t *testing.T, s *Store) {
			for _, q := range []string{
				`DELETE FROM rules WHERE key = 'https://lost.example/'`,
				`DELETE FROM changes WHERE seq = (SELECT seq FROM audit_log_head)`,
				`UPDATE audit_log_head SET seq = seq - 1, hash = (SELECT hash FROM changes WHERE seq = audit_log_head.seq - 1)`,
			} {
				require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), q)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, more := range []int{0, 1, 3} {
				eachCluster(t, func(t *testing.T, nodes [2]*Store) {
					c := follower(t, nodes[1])
					addRules(t, nodes[0], aRule(t, "wxa", "https://h.example/"))
					addRules(t, nodes[0], aRule(t, "wxa", "https://lost.example/"))
					catchUp(t, c)
					want(t, "before", pathOf(c, "https://lost.example/1"), "p")
					happens(t, nodes[0])
					for n := range more {
						addRules(t, nodes[0], aRule(t, "wxa", fmt.Sprintf("https://new%d.example/", n)))
					}
					catchUp(t, c)
					want(t, "lost", pathOf(c, "https://lost.example/1"), "")
					want(t, "kept", pathOf(c, "https://h.example/"), storedPath(t, nodes[0], "https://h.example/"))
					for n := range more {
						want(t, "new", pathOf(c, fmt.Sprintf("https://new%d.example/", n)), "p")
					}
					addRules(t, nodes[0], aRule(t, "wxa", "https://later.example/"))
					catchUp(t, c)
					want(t, "later", pathOf(c, "https://later.example/"), "p")
				})
			}
		})
	}
}

// Many writers change rules on both nodes, which follow by notifications while their connections are cut. No reader sees an older state
// after a newer one, and in the end both nodes have the state of the store.
func TestFollow_NoGapsNoRepeats(t *testing.T) {
	t.Parallel()
	nodes := [2]*Store{}
	target := newPostgres(t)
	for i := range nodes {
		nodes[i] = open(t, target)
	}
	const keys, writers, each = 10, 4, 25
	key := func(k int) string { return fmt.Sprintf("https://h%d.example/", k) }
	for k := range keys {
		addRules(t, nodes[0], aRule(t, "wxa", key(k)))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var follow sync.WaitGroup
	defer follow.Wait()
	defer stop()
	var followers [2]*replica.Replica
	ended := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	var log lockedBuffer
	for i := range nodes {
		c := follower(t, nodes[i])
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		followers[i] = c
		c.Handlers[replica.MetaChange] = func(_ context.Context, name string) error {
			if name == "end" {
				close(ended[i])
			}
			return nil
		}
		follow.Go(func() { c.Follow(ctx) })
		// A node with scans looks all the time.
		follow.Go(func() {
			var last [keys]int
			for ctx.Err() == nil {
				for k := range keys {
					var version int
					fmt.Sscanf(pathOf(c, key(k)), "v%d", &version)
					if version < last[k] {
						t.Errorf("node %d shows version %d of %s after %d", i, version, key(k), last[k])
						return
					}
					last[k] = version
				}
				runtime.Gosched() // others have work to do
			}
		})
	}
	cut := func() {
		assert.NoError(t, assert.ErrorOf(nodes[0].write.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'`)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	picks := make([]int, writers*each)
	for i := range picks {
		picks[i] = random.IntN(keys)
	}
	var mu [keys]sync.Mutex // versions of one rule rise in the order of commits
	var versions [keys]int
	errs := race(writers, func(w int) error {
		for n := range each {
			k := picks[w*each+n]
			mu[k].Lock()
			versions[k]++
			version := versions[k]
			err := nodes[w%2].update(ctx, func(tx *Tx) error {
				r, err := tx.rules().Rule(ctx, key(k))
				if err != nil {
					return err
				}
				r.Path = fmt.Sprintf("v%d", version)
				return tx.rules().PutRule(ctx, r, someone)
			})
			if err == nil {
				// The own node shows it before the answer.
				followers[w%2].RefreshRule(ctx, key(k))
				got := pathOf(followers[w%2], key(k))
				assert.True(t, got == fmt.Sprintf("v%d", version), "after the answer: %s, want v%d", got, version)
			}
			mu[k].Unlock()
			if err != nil {
				return err
			}
			if n%8 == 0 && w == 0 {
				cut()
			}
		}
		return nil
	})
	succeeded(t, errs, nil)
	// Somebody has to notice: a connection may be made again at any moment.
	for cut(); !strings.Contains(log.String(), "change notification connection lost"); cut() {
	}
	require.NoError(t, nodes[0].PutMeta(ctx, "end", "1"))
	for i, c := range followers {
		<-ended[i]
		for k := range keys {
			want(t, key(k), pathOf(c, key(k)), storedPath(t, nodes[0], key(k)))
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A node whose store does not answer says how old its memory is.
func TestFollow_StalenessReported(t *testing.T) {
	target := newPostgres(t)
	s, err := Open(t.Context(), target)
	require.NoError(t, err)
	c := follower(t, s)
	now := at
	c.Now = func() time.Time { return now }
	catchUp(t, c)
	want(t, "age", c.Staleness(), 0)
	assert.NoError(t, c.Ready())
	require.NoError(t, s.Close())
	now = now.Add(replica.FollowLimit + time.Second)
	assert.True(t, c.CatchUp(t.Context()) != nil, "followed a closed store")
	want(t, "age", c.Staleness(), replica.FollowLimit+time.Second)
	err = c.Ready()
	assert.True(t, err != nil && strings.Contains(err.Error(), "last read 6s ago"), "ready: %v", err)
}

// slowLog takes two seconds for each query that finds changes.
type slowLog struct {
	replica.ChangeLog
	now    *time.Time
	onPage func()
}

func (l slowLog) ChangesFrom(ctx context.Context, from int64, limit int) ([]replica.Change, error) {
	list, err := l.ChangeLog.ChangesFrom(ctx, from, limit)
	if len(list) > 1 {
		*l.now = l.now.Add(2 * time.Second)
		l.onPage()
	}
	return list, err
}

// TestReady_LongImport wants a node to stay ready for changes while it reads an import for longer than FollowLimit: all nodes
// read it at once.
func TestReady_LongImport(t *testing.T) {
	_, nodes, b, _, _ := twoNodes(t)
	c := follower(t, nodes[1])
	now := at
	c.Now = func() time.Time { return now }
	catchUp(t, c)
	const n = 12_345
	// The node goes past the numbers of the import before it is shown.
	plan := planOf(n, func(p *rules.Planned) {
		if p.Line == 1 {
			catchUp(t, c)
		}
	})
	require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), plan, false)))
	var read []int64
	oldest := time.Duration(0)
	c.Changes = slowLog{ChangeLog: nodes[1], now: &now, onPage: func() {
		err := c.Ready()
		assert.NoErrorf(t, err, "Ready() = %v, %v after the node began to read", err, now.Sub(at))
		oldest = max(oldest, c.Staleness())
		if done, all := c.Reading(); all > 0 {
			read = append(read, done)
			assert.True(t, all == n, "Reading() = %d of %d, want of %d", done, all, n)
		}
	}}
	catchUp(t, c)
	if done, all := c.Reading(); done != 0 || all != 0 || c.Rules.Len() != n {
		t.Errorf("Reading() = %d, %d with %d rules, want 0, 0 with %d", done, all, c.Rules.Len(), n)
	}
	if read = slices.Compact(read); !slices.Equal(read, []int64{5000, 10_000}) || oldest <= replica.FollowLimit {
		t.Errorf("read up to %v, at most %v old: want 5000 and 10000, and older than %v", read, oldest, replica.FollowLimit)
	}
}
