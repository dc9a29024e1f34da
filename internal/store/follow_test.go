package store

import (
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
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// newReplica returns a loaded replica of a node that answers scans only.
func newReplica(t *testing.T, s *Store) *replica.Replica {
	t.Helper()
	c := &replica.Replica{Rules: index.New(), Accounts: replica.NewAccounts(), Codes: codes.NewMemory(s), RuleStore: s, AccountStore: s,
		Log: slog.New(slog.DiscardHandler), Changes: s, Handlers: map[string]func(context.Context, string) error{}}
	require.NoError(t, c.Load(t.Context()))
	return c
}

// matchingPath returns the path of the rule that matches a link on a node, or "".
func matchingPath(c *replica.Replica, text string) string {
	link, _ := rules.ParseLink(text)
	for _, r := range c.Rules.Matching(link) {
		return r.Path
	}
	return ""
}

// readPath returns the path of the rule with a key in the store, or "".
func readPath(t *testing.T, s *Store, key string) (path string) {
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
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		c := newReplica(t, nodes[1])
		catchUp(t, c)
		r := addRules(t, nodes[0], newRule(t, "wxa", "https://h.example/"))[0]
		check(t, "path before CatchUp", matchingPath(c, "https://h.example/1"), "")
		catchUp(t, c)
		check(t, "path of the added rule", matchingPath(c, "https://h.example/1"), "p")
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			for n := range 3 {
				r.Path = fmt.Sprint("p", n)
				if err := tx.rules().PutRule(ctx, r, addMeta); err != nil {
					return err
				}
			}
			return tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxs", Name: "S"})
		})
		catchUp(t, c)
		check(t, "path of the edited rule", matchingPath(c, "https://h.example/1"), "p2")
		a, known := c.Accounts.Account("wxs")
		check(t, "account", a.Name, "S")
		check(t, "account known", known, true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().PutLink(ctx, "wxs", "wxm", t0) })
		catchUp(t, c)
		check(t, "linked", c.Accounts.Linked("wxs", "wxm"), true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
		catchUp(t, c)
		check(t, "unlinked", c.Accounts.Linked("wxs", "wxm"), false)
		var batch codes.Batch
		update(t, nodes[0], func(ctx context.Context, tx *Tx) (err error) {
			if err := tx.accounts().DeleteAccount(ctx, "wxs"); err != nil {
				return err
			}
			if err := tx.rules().DeleteRule(ctx, r, addMeta); err != nil {
				return err
			}
			batch, err = tx.codes().AddBatch(ctx, codes.Batch{Account: "wxs", Count: 10, Version: '0', Start: 7})
			return err
		})
		catchUp(t, c)
		_, known = c.Accounts.Account("wxs")
		check(t, "account known", known, false)
		check(t, "path of the deleted rule", matchingPath(c, "https://h.example/1"), "")
		_, known = c.Codes.Batch(batch.ID)
		check(t, "batch known", known, true)
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			_, err := tx.codes().AddEvent(ctx, codes.Event{Batch: batch.ID, Action: codes.Freeze,
				Codes:      codes.NewSet(codes.Range{From: 3, To: 3}),
				OccurredAt: t0, From: t0})
			return err
		})
		catchUp(t, c)
		check(t, "frozen", c.Codes.State(batch.ID, 3, t0).Frozen, true)

		lag, err := c.Lag(t.Context())
		require.NoError(t, err)
		check(t, "lag", lag, 0)
		addRules(t, nodes[0], newRule(t, "wxa", "https://i.example/"), newRule(t, "wxa", "https://j.example/"))
		lag = require.Value(c.Lag(t.Context()))(t)
		check(t, "lag", lag, 2)
	})
}

// TestRefreshRule_ChangeOfOtherNodeSeen verifies that RefreshRule reads the change of another node, even if the transaction before it
// writes nothing.
func TestRefreshRule_ChangeOfOtherNodeSeen(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		r := addRules(t, nodes[0], newRule(t, "wxa", "https://h.example/"))[0]
		c := newReplica(t, nodes[1])
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
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, r, addMeta) })
		change()
		check(t, "path of the rule", matchingPath(c, "https://h.example/1"), "p2")
	})
}

func TestFollow_ReloadOnReplacedLog(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, s *Store){
		"a reset": func(t *testing.T, s *Store) { require.NoError(t, s.Reset(t.Context())) },
		// A failover to a standby without the last commits, whose seqs are then used again.
		"the last commit is lost": func(t *testing.T, s *Store) {
			for _, q := range []string{
				`DELETE FROM rules WHERE key = 'https://lost.example/'`,
				`DELETE FROM changes WHERE seq = (SELECT seq FROM audit_log_head)`,
				`UPDATE audit_log_head SET seq = seq - 1, hash = (SELECT hash FROM changes WHERE seq = audit_log_head.seq - 1)`,
			} {
				mustExec(t, s, q)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, added := range []int{0, 1, 3} {
				forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
					c := newReplica(t, nodes[1])
					addRules(t, nodes[0], newRule(t, "wxa", "https://h.example/"))
					addRules(t, nodes[0], newRule(t, "wxa", "https://lost.example/"))
					catchUp(t, c)
					check(t, "path before the log is replaced", matchingPath(c, "https://lost.example/1"), "p")
					replace(t, nodes[0])
					for n := range added {
						addRules(t, nodes[0], newRule(t, "wxa", fmt.Sprintf("https://new%d.example/", n)))
					}
					catchUp(t, c)
					check(t, "path of the lost rule", matchingPath(c, "https://lost.example/1"), "")
					check(t, "path of the stored rule", matchingPath(c, "https://h.example/"), readPath(t, nodes[0], "https://h.example/"))
					for n := range added {
						check(t, "path of a new rule", matchingPath(c, fmt.Sprintf("https://new%d.example/", n)), "p")
					}
					addRules(t, nodes[0], newRule(t, "wxa", "https://later.example/"))
					catchUp(t, c)
					check(t, "path of a later rule", matchingPath(c, "https://later.example/"), "p")
				})
			}
		})
	}
}

// TestFollow_LastChangeMissing verifies that a reload fails if the log lacks its last change, until the log has a new last change.
func TestFollow_LastChangeMissing(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		c := newReplica(t, nodes[1])
		addRules(t, nodes[0], newRule(t, "wxa", "https://h.example/"))
		mustExec(t, nodes[0], `DELETE FROM changes WHERE seq = (SELECT seq FROM audit_log_head)`)
		err := c.Reload(t.Context())
		require.True(t, err != nil && strings.Contains(err.Error(), "the audit log lacks its last change"), "Reload() = %v", err)
		addRules(t, nodes[0], newRule(t, "wxa", "https://new.example/"))
		catchUp(t, c)
		check(t, "path of a new rule", matchingPath(c, "https://new.example/1"), "p")
	})
}

// TestFollow_NoGapsNoRepeats changes rules on two nodes, whose notification connections are terminated meanwhile. No reader sees an older
// version after a newer one, and at the end both nodes have the state of the store.
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
		addRules(t, nodes[0], newRule(t, "wxa", key(k)))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var follow sync.WaitGroup
	defer follow.Wait()
	defer stop()
	var followers [2]*replica.Replica
	ended := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	var log testdiag.Buffer
	for i := range nodes {
		c := newReplica(t, nodes[i])
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		followers[i] = c
		c.Handlers[replica.MetaChange] = func(_ context.Context, name string) error {
			if name == "end" {
				close(ended[i])
			}
			return nil
		}
		follow.Go(func() { c.Follow(ctx) })
		// A reader, as the scans of a node.
		follow.Go(func() {
			var last [keys]int
			for ctx.Err() == nil {
				for k := range keys {
					var version int
					fmt.Sscanf(matchingPath(c, key(k)), "v%d", &version)
					if version < last[k] {
						t.Errorf("node %d has version %d of %s after version %d", i, version, key(k), last[k])
						return
					}
					last[k] = version
				}
				runtime.Gosched()
			}
		})
	}
	terminate := func() {
		assert.NoError(t, assert.ErrorOf(nodes[0].write.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'`)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	picks := make([]int, writers*each)
	for i := range picks {
		picks[i] = random.IntN(keys)
	}
	var mu [keys]sync.Mutex // held until the commit, so that the versions of a rule are in commit order
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
				return tx.rules().PutRule(ctx, r, addMeta)
			})
			if err == nil {
				// The node of the writer has the change when the call returns.
				followers[w%2].RefreshRule(ctx, key(k))
				got := matchingPath(followers[w%2], key(k))
				assert.Equal(t, got, fmt.Sprintf("v%d", version), "version after RefreshRule")
			}
			mu[k].Unlock()
			if err != nil {
				return err
			}
			if n%8 == 0 && w == 0 {
				terminate()
			}
		}
		return nil
	})
	countSuccesses(t, errs, nil)
	// Repeat until a follower notices: a new connection may begin after the statement.
	for terminate(); !strings.Contains(log.String(), "change notification connection lost"); terminate() {
	}
	require.NoError(t, nodes[0].PutMeta(ctx, "end", "1"))
	for i, c := range followers {
		<-ended[i]
		for k := range keys {
			check(t, key(k), matchingPath(c, key(k)), readPath(t, nodes[0], key(k)))
		}
	}
}

// TestFollow_StalenessReported verifies Staleness and Ready of a replica whose store is closed.
func TestFollow_StalenessReported(t *testing.T) {
	target := newPostgres(t)
	s, err := Open(t.Context(), target)
	require.NoError(t, err)
	c := newReplica(t, s)
	now := t0
	c.Now = func() time.Time { return now }
	catchUp(t, c)
	check(t, "Staleness()", c.Staleness(), 0)
	assert.NoError(t, c.Ready())
	require.NoError(t, s.Close())
	now = now.Add(replica.FollowLimit + time.Second)
	assert.True(t, c.CatchUp(t.Context()) != nil, "CatchUp() with a closed store = nil, want an error")
	check(t, "Staleness()", c.Staleness(), replica.FollowLimit+time.Second)
	err = c.Ready()
	assert.True(t, err != nil && strings.Contains(err.Error(), "last read 6s ago"), "Ready() = %v, want last read 6s ago", err)
}

// slowLog is a change log in which each query that finds changes takes two seconds of the test's clock.
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

// TestReady_LongImport verifies that a node stays ready while it reads an import for longer than FollowLimit. All nodes read it at the same
// time, so that none would be ready.
func TestReady_LongImport(t *testing.T) {
	_, nodes, b, _, _ := openTwoNodes(t)
	c := newReplica(t, nodes[1])
	now := t0
	c.Now = func() time.Time { return now }
	catchUp(t, c)
	const n = 12_345
	// The node reads beyond the seqs of the import before it becomes visible.
	plan := newPlan(n, func(p *rules.Planned) {
		if p.Line == 1 {
			catchUp(t, c)
		}
	})
	require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), plan, false)))
	var read []int64
	staleness := time.Duration(0)
	c.Changes = slowLog{ChangeLog: nodes[1], now: &now, onPage: func() {
		err := c.Ready()
		assert.NoErrorf(t, err, "Ready() = %v, %v after the node began to read", err, now.Sub(t0))
		staleness = max(staleness, c.Staleness())
		if done, total := c.Reading(); total > 0 {
			read = append(read, done)
			assert.True(t, total == n, "Reading() = %d of %d, want of %d", done, total, n)
		}
	}}
	catchUp(t, c)
	if done, total := c.Reading(); done != 0 || total != 0 || c.Rules.Len() != n {
		t.Errorf("Reading() = %d, %d with %d rules, want 0, 0 with %d", done, total, c.Rules.Len(), n)
	}
	if read = slices.Compact(read); !slices.Equal(read, []int64{5000, 10_000}) || staleness <= replica.FollowLimit {
		t.Errorf("rows read = %v, staleness = %v, want 5000 and 10000, and more than %v", read, staleness, replica.FollowLimit)
	}
}
