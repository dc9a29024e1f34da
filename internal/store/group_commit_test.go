package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// On a busy machine no change of these tests loses its patience.
func init() { groupWait = time.Hour }

// waiting are changes of rules that wait while a stranger has the head of the log.
type waiting struct {
	t       *testing.T
	s       *Store
	service *rules.Service
	free    func() // gives the head back
	all     sync.WaitGroup
	asked   int
	lost    bool // the commit of the first change fails
}

// whileWaiting runs f on PostgreSQL while the first change waits for the head of the audit log, so that all later changes queue behind it
// and join its group late. SQLite commits one change at a time.
func whileWaiting(t *testing.T, f func(t *testing.T, w *waiting)) {
	t.Helper()
	target := Target{URL: copies.Postgres(t), Dir: t.TempDir()}
	nodes := [2]*Store{open(t, target), open(t, target)}
	for _, name := range []string{"first", "good", "refused", "gone", "tail", "owner", "busy", "met", "other"} {
		miniProgram(t, nodes[0], name)
	}
	for i := range 20 {
		miniProgram(t, nodes[0], fmt.Sprint("owner", i))
	}
	service := books(nodes, func(s *settings.Settings) { s.RuleLimit = 2 })[0]
	locked, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- nodes[1].update(context.Background(), func(tx *Tx) error {
			err := tx.lockHead(t.Context())
			close(locked)
			<-release
			return err
		})
	}()
	<-locked
	w := &waiting{t: t, s: nodes[0], service: service, free: func() {
		close(release)
		assert.NoError(t, (<-ended))
	}}
	first := make(chan error, 1)
	w.all.Go(func() {
		first <- add(t.Context(), service, w.owner("first"), "rid of first", "https://first.example/", false)
	})
	waitFor(t, "the first change to wait for the head", func() bool { return sessionsThatWait(t, nodes[1]) == 1 })
	f(t, w)
	err := <-first
	assert.True(t, (err != nil) == w.lost, "the first change ended with %v, lost: %v", err, w.lost)
}

// does makes a change that waits.
func (w *waiting) does(change func() error) <-chan error {
	w.t.Helper()
	err := make(chan error, 1)
	w.all.Go(func() { err <- change() })
	w.asked++
	waitFor(w.t, "the change to wait", func() bool {
		w.s.committer.mu.Lock()
		defer w.s.committer.mu.Unlock()
		return len(w.s.committer.waiting) == w.asked
	})
	return err
}

func (w *waiting) owner(name string) accounts.Account {
	return accounts.Account{AppID: name, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true}
}

// adds adds rule n of an owner, on a host of its own.
func (w *waiting) adds(ctx context.Context, name string, n int) <-chan error {
	owner := w.owner(name)
	return w.does(func() error {
		return add(ctx, w.service, owner, fmt.Sprint("rid of ", name, n), fmt.Sprintf("https://%s.example/%d/", name, n), false)
	})
}

// transactions is how many of them stored the rules of owners.
func (w *waiting) transactions() (n int) {
	w.t.Helper()
	err := w.s.read.QueryRowContext(w.t.Context(), `SELECT COUNT(DISTINCT xmin::text) FROM rules WHERE owner <> 'first'`).Scan(&n)
	require.NoError(w.t, err)
	return n
}

func (w *waiting) verified(rules int) {
	w.t.Helper()
	var n, seq int
	err := w.s.read.QueryRowContext(w.t.Context(), `SELECT (SELECT COUNT(*) FROM rules), (SELECT COUNT(*) FROM changes c JOIN rules r
		ON r.id = c.seq AND r.key = c.key AND c.actor = r.owner AND c.rid LIKE 'rid of ' || r.owner || '%')`).
		Scan(&n, &seq)
	assert.True(w.t, err == nil && n == rules && seq == rules,
		"%d rules, %d of them with an entry of their own under their number: want %d (%v)", n, seq, rules, err)
	checked, err := w.s.VerifyChanges(w.t.Context())
	assert.True(w.t, err == nil && checked.FirstError == nil, "the log of changes: %v %v", checked.FirstError, err)
}

func TestGroupCommit_WaitingChangesMerged(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		var all []<-chan error
		for i := range 20 {
			all = append(all, w.adds(t.Context(), fmt.Sprint("owner", i), 0))
		}
		w.free()
		for i, err := range all {
			assert.NoErrorf(t, (<-err), "owner%d", i)
		}
		w.all.Wait()
		n := w.transactions()
		assert.True(t, n == 1, "20 changes were made by %d transactions", n)
		w.verified(21)
	})
}

func TestGroupCommit_OneChangeFails(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		good := w.adds(t.Context(), "good", 0)
		// What the domain refuses.
		refused := w.does(func() error {
			return w.service.Publish(t.Context(), w.owner("refused"), "https://refused.example/none/")
		})
		// One whose caller goes away before its turn.
		ctx, away := context.WithCancelCause(t.Context())
		gone := w.adds(ctx, "gone", 0)
		// A panic is its caller's.
		panicked := w.does(func() (err error) {
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			return w.s.ChangeRules(t.Context(), "panics", "https://panics.example", func(rules.Tx) error { panic("of a caller") })
		})
		tail := w.adds(t.Context(), "tail", 0)
		away(errors.New("the caller is gone"))
		err := <-gone
		assert.True(t, err != nil && err.Error() == "the caller is gone", "a caller that went away was told %v", err)
		w.free()
		assert.ErrorIs(t, (<-refused), errcode.InvalidArgs, "a publish of no rule")
		err = <-panicked
		assert.True(t, err != nil && err.Error() == "panic: of a caller", "a change that panics: %v", err)
		for _, err := range []<-chan error{good, tail} {
			assert.NoErrorf(t, (<-err), "a change beside those")
		}
		w.all.Wait()
		n := w.transactions()
		assert.True(t, n == 1, "what was left was made by %d transactions", n)
		w.verified(3)
	})
}

func TestGroupCommit_FaultIsolated(t *testing.T) {
	for name, fault := range map[string]func(context.Context, *Tx) error{
		"a question that fails": func(ctx context.Context, tx *Tx) error {
			return tx.row(ctx, `SELECT 1 / (id - id) FROM rules`).Scan(new(int))
		},
		"a write that fails": func(ctx context.Context, tx *Tx) error {
			return tx.execQueued(ctx, nil, `INSERT INTO rules (id) VALUES (1)`)
		},
		"a write that finds nothing": func(ctx context.Context, tx *Tx) error {
			return tx.rules().PutRule(ctx, rules.Rule{ID: 1 << 40, Kind: rules.Ordinary}, rules.ChangeMeta{Action: "edit"})
		},
		"a lock of another": func(ctx context.Context, tx *Tx) error {
			if err := tx.LockOwner(ctx, "stranger"); err != nil {
				return err
			}
			return errors.New("refused alone")
		},
	} {
		t.Run(name, func(t *testing.T) {
			whileWaiting(t, func(t *testing.T, w *waiting) {
				good := w.adds(t.Context(), "good", 0)
				bad := w.does(func() error {
					return w.s.ChangeRules(t.Context(), "bad", "https://bad.example", func(tx rules.Tx) error {
						return fault(t.Context(), tx.(rulesTx).Tx)
					})
				})
				tail := w.adds(t.Context(), "tail", 0)
				w.free()
				err := <-bad
				assert.True(t, err != nil && !errors.Is(err, errUngrouped), "the change that fails: %v", err)
				for _, err := range []<-chan error{good, tail} {
					assert.NoErrorf(t, (<-err), "a change beside it")
				}
				w.all.Wait()
				w.verified(3)
			})
		})
	}
}

func TestGroupCommit_NoWaitForOtherOwner(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		held := make(chan struct{})
		let := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- w.s.update(context.Background(), func(tx *Tx) error {
				err := tx.LockOwner(context.Background(), "busy")
				close(held)
				<-let
				return err
			})
		}()
		<-held
		busy := w.adds(t.Context(), "busy", 0)
		good := w.adds(t.Context(), "good", 0)
		w.free()
		assert.NoErrorf(t, (<-good), "a change of another owner")
		select {
		case err := <-busy:
			t.Errorf("the change of an owner whose lock somebody has came to its end: %v", err)
		default:
		}
		close(let)
		assert.NoError(t, errors.Join(<-busy, <-ended))
		w.all.Wait()
		w.verified(3)
	})
}

// A change that waited for long goes alone, but no more than a few at once: the others keep their places.
func TestGroupCommit_LongWaitersSoloLimit(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		w.s.committer.wait = time.Millisecond
		var all []<-chan error
		const many = 20
		for i := range many {
			err := make(chan error, 1)
			owner := fmt.Sprint("owner", i)
			all = append(all, err)
			w.all.Go(func() {
				err <- add(t.Context(), w.service, w.owner(owner), "rid of "+owner, fmt.Sprintf("https://%s.example/", owner), false)
			})
		}
		waitFor(w.t, "a few changes to wait for the head alone, and the others in the line", func() bool {
			w.s.committer.mu.Lock()
			defer w.s.committer.mu.Unlock()
			return len(w.s.committer.waiting) == many-maxImpatient && sessionsThatWait(w.t, w.s) == 1+maxImpatient
		})
		w.free()
		for _, err := range all {
			assert.NoError(t, (<-err))
		}
		w.all.Wait()
		w.verified(1 + many)
		assert.Equal(t, w.s.committer.impatient, 0, "places of those that go alone were not given back")
	})
}

// Changes that began to wait while a group waited for the head of the log are committed by the transaction of this group.
func TestGroupCommit_LateChangesJoin(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		var all []<-chan error
		for i := range 4 {
			all = append(all, w.adds(t.Context(), fmt.Sprint("owner", i/2), i))
		}
		w.free()
		for i, err := range all {
			assert.NoErrorf(t, (<-err), "change %d", i)
		}
		w.all.Wait()
		w.verified(1 + len(all))
		var transactions int
		require.NoError(t, w.s.read.QueryRowContext(t.Context(), `SELECT COUNT(DISTINCT xmin::text) FROM rules`).Scan(&transactions))
		assert.Equal(t, transactions, 1, "transactions that wrote the rules")
	})
}

// A group takes at most maxSteps of the changes that share an owner or an origin, and the changes of others behind them.
func TestGroupCommit_StepsLimited(t *testing.T) {
	var g groupCommitter
	for i := range maxSteps + 3 {
		owner, origin := ownerPart("busy"), originPart(fmt.Sprint("https://", i))
		if i%2 == 1 {
			owner, origin = ownerPart(fmt.Sprint("owner", i)), originPart("https://busy.example")
		}
		g.waiting = append(g.waiting, &pendingChange{parts: [2]string{owner, origin}})
		g.waiting = append(g.waiting, &pendingChange{parts: [2]string{owner, origin}})
	}
	g.waiting = append(g.waiting, &pendingChange{parts: [2]string{ownerPart("other"), originPart("https://other.example")}})
	all := g.takeFree(maxGroupSize)
	assert.Equal(t, len(all), 2*maxSteps+1, "changes of two busy parts and of another owner")
	assert.Equal(t, len(steps(all)), maxSteps, "steps of the group")
	assert.Equal(t, len(g.waiting), 6, "changes that wait for the next group")
}

// The session ends when the commit of several was sent: each is told that nobody knows, and none is made once more.
func TestGroupCommit_LostCommitResponse(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		for _, statement := range []string{
			`CREATE FUNCTION ends_the_session() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'`,
			`CREATE CONSTRAINT TRIGGER at_the_commit AFTER INSERT ON rules DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
				WHEN (NEW.owner <> 'first') EXECUTE FUNCTION ends_the_session()`,
		} {
			require.NoError(t, assert.ErrorOf(w.s.write.ExecContext(t.Context(), statement)))
		}
		w.lost = true
		var all []<-chan error
		for i := range 3 {
			all = append(all, w.adds(t.Context(), fmt.Sprint("owner", i), 0))
		}
		w.free()
		for i, err := range all {
			_, is := errors.AsType[*errcode.Unavailable](<-err)
			assert.True(t, is, "owner%d is told something else than that the session ended", i)
		}
		w.all.Wait()
		w.verified(0)
	})
}

// A query of a change waits for a lock while the group has locked the end of the log: the changes run alone after a while.
func TestGroupCommit_SoloAfterStall(t *testing.T) {
	s := open(t, newPostgres(t))
	s.committer.lockTimeout = 100 * time.Millisecond
	held, err := s.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer held.Rollback()
	_, err = held.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(48)`)
	require.NoError(t, err)
	errs := make(chan error, 3)
	for i := range cap(errs) {
		go func() {
			errs <- s.ChangeRules(t.Context(), fmt.Sprint("owner", i), fmt.Sprint("origin", i), func(tx rules.Tx) error {
				return tx.(rulesTx).row(t.Context(), `SELECT 1 FROM pg_advisory_xact_lock_shared(48)`).Scan(new(int))
			})
		}()
	}
	waitFor(t, "three changes to wait for the lock, each on a session of its own", func() bool { return sessionsThatWait(t, s) == 3 })
	require.NoError(t, held.Rollback())
	for range cap(errs) {
		err := <-errs
		assert.NoErrorf(t, err, "a change that waited for a lock = %v, want nil", err)
	}
}

// Twenty changes of three owners on shared hosts are one transaction, in their order: each sees the rules of those before it.
func TestGroupCommit_SharedOwnersMerged(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		add := func(owner string, path int) <-chan error {
			return w.does(func() error {
				return add(t.Context(), w.service, w.owner(owner), "rid of "+owner, fmt.Sprintf("https://shared.example/%d/", path), false)
			})
		}
		var stored, taken, full []<-chan error
		stored = append(stored, add("owner1", 1), add("owner2", 2), add("owner1", 3), add("owner2", 4))
		taken = append(taken, add("owner3", 2), add("owner3", 3))   // the prefixes of other owners
		full = append(full, add("owner1", 5), add("owner2", 6))     // the limit is 2
		stored = append(stored, add("owner3", 5), add("owner3", 6)) // not taken by the changes before
		w.free()
		for want, all := range map[error][]<-chan error{nil: stored, errcode.PrefixOwned: taken, errcode.PrefixLimit: full} {
			for i, err := range all {
				err := <-err
				assert.ErrorIs(t, err, want, "change %d = %v, want %v", i, err, want)
			}
		}
		w.all.Wait()
		assert.Equal(t, w.transactions(), 1, "transactions of the changes of three owners")
		w.verified(1 + len(stored))
	})
}

// A change is refused because of a rule that an earlier change of its group adds. If the group fails and the earlier change is not made,
// the refusal does not hold: the change runs again, and succeeds.
func TestGroupCommit_RefusalOnlyAfterCommit(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		ctx, away := context.WithCancelCause(t.Context())
		add := func(ctx context.Context, owner string) <-chan error {
			return w.does(func() error {
				return add(ctx, w.service, w.owner(owner), "rid of "+owner, "https://shared.example/1/", false)
			})
		}
		lost, refused := add(ctx, "owner1"), add(t.Context(), "owner2")
		failed := w.does(func() error {
			return w.s.ChangeRules(t.Context(), "owner3", "https://shared.example", func(tx rules.Tx) error {
				away(errors.New("the caller is gone"))
				return tx.(rulesTx).Tx.execQueued(t.Context(), nil, `INSERT INTO rules (id) VALUES (1)`)
			})
		})
		w.free()
		err := <-refused
		assert.NoErrorf(t, err, "the change that was refused in a group that failed = %v, want nil", err)
		if err := <-lost; err == nil || err.Error() != "the caller is gone" {
			t.Errorf("the earlier change of a caller that disconnected = %v, want its cause", err)
		}
		err = <-failed
		assert.True(t, err != nil && !errors.Is(err, errUngrouped), "the change that fails = %v, want the error of its statement", err)
		w.all.Wait()
		w.verified(2)
	})
}

// A caller that disconnects while its change waits for the changes before it in the same group makes no change.
func TestGroupCommit_CancelledWithinGroup(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		ctx, away := context.WithCancelCause(t.Context())
		began, proceed := make(chan struct{}), make(chan struct{})
		holds := w.does(func() error {
			return w.s.ChangeRules(t.Context(), "owner1", "origin", func(rules.Tx) error {
				close(began)
				<-proceed
				return nil
			})
		})
		gone := w.adds(ctx, "owner1", 1)
		tail := w.adds(t.Context(), "owner1", 2)
		w.free()
		<-began
		away(errors.New("the caller is gone"))
		close(proceed)
		if err := <-gone; err == nil || err.Error() != "the caller is gone" {
			t.Errorf("the change of a caller that disconnected = %v, want its cause", err)
		}
		err := errors.Join(<-holds, <-tail)
		assert.NoErrorf(t, err, "the changes beside it = %v, want nil", err)
		w.all.Wait()
		w.verified(2)
	})
}

// An owner that added what an import is writing (TestImportRules_DoesNotBlockOthers) goes alone for a while, and breaks up no other
// transaction of several.
func TestGroupCommit_SoloAfterImportConflict(t *testing.T) {
	whileWaiting(t, func(t *testing.T, w *waiting) {
		w.s.committer.ungroupOwner("met")
		met := make(chan error, 1)
		w.all.Go(func() {
			met <- add(t.Context(), w.service, w.owner("met"), "rid of met", "https://met.example/", false)
		})
		waitFor(w.t, "the change of that owner to wait for the head alone", func() bool { return sessionsThatWait(w.t, w.s) == 2 })
		other := w.adds(t.Context(), "other", 0)
		w.free()
		assert.NoError(t, errors.Join(<-met, <-other))
		w.all.Wait()
		w.verified(3)
	})
}
