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

// On a slow machine, no change of these tests leaves the queue to run alone.
func init() { groupWait = time.Hour }

// queuedChanges makes changes of rules that wait in the queue of the group commit.
type queuedChanges struct {
	t         *testing.T
	s         *Store
	service   *rules.Service
	release   func() // unlocks the head of the audit log
	all       sync.WaitGroup
	enqueued  int
	wantError bool // the first change fails
}

// withQueuedChanges runs f on PostgreSQL while the first change waits for the head of the audit log. Later changes are queued and join the
// group of the first. SQLite commits one change at a time.
func withQueuedChanges(t *testing.T, f func(t *testing.T, w *queuedChanges)) {
	t.Helper()
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	for _, name := range []string{"first", "good", "refused", "gone", "tail", "owner", "busy", "met", "other"} {
		addMiniProgram(t, nodes[0], name)
	}
	for i := range 20 {
		addMiniProgram(t, nodes[0], fmt.Sprint("owner", i))
	}
	service := newRuleServices(nodes, func(s *settings.Settings) { s.RuleLimit = 2 })[0]
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
	w := &queuedChanges{t: t, s: nodes[0], service: service, release: func() {
		close(release)
		assert.NoError(t, (<-ended))
	}}
	first := make(chan error, 1)
	w.all.Go(func() {
		first <- addRule(t.Context(), service, w.owner("first"), "rid of first", "https://first.example/", false)
	})
	waitFor(t, "the first change to wait for the head", func() bool { return countLockWaiters(t, nodes[1]) == 1 })
	f(t, w)
	err := <-first
	assert.True(t, (err != nil) == w.wantError, "error of the first change = %v, want an error: %v", err, w.wantError)
}

// enqueue starts a change and returns when it is in the queue. The channel receives the result of the change.
func (w *queuedChanges) enqueue(change func() error) <-chan error {
	w.t.Helper()
	err := make(chan error, 1)
	w.all.Go(func() { err <- change() })
	w.enqueued++
	waitFor(w.t, "the change to wait", func() bool {
		w.s.committer.mu.Lock()
		defer w.s.committer.mu.Unlock()
		return len(w.s.committer.waiting) == w.enqueued
	})
	return err
}

func (w *queuedChanges) owner(name string) accounts.Account {
	return accounts.Account{AppID: name, Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true}
}

// add enqueues a change that adds a rule of an owner.
func (w *queuedChanges) add(ctx context.Context, owner, prefix string) <-chan error {
	return w.enqueue(func() error { return addRule(ctx, w.service, w.owner(owner), "rid of "+owner, prefix, false) })
}

// addNumbered enqueues a change that adds rule n of an owner, on the host of the owner.
func (w *queuedChanges) addNumbered(ctx context.Context, owner string, n int) <-chan error {
	return w.add(ctx, owner, fmt.Sprintf("https://%s.example/%d/", owner, n))
}

// transactions returns the number of transactions that stored the rules of queued changes.
func (w *queuedChanges) transactions() int64 {
	w.t.Helper()
	return queryInt(w.t, w.s, `SELECT COUNT(DISTINCT xmin::text) FROM rules WHERE owner <> 'first'`)
}

// check waits for the changes, and reports an error unless there are n rules, each with an audit log entry of its owner and call.
func (w *queuedChanges) check(n int64) {
	w.t.Helper()
	w.all.Wait()
	check(w.t, "rules", queryInt(w.t, w.s, `SELECT COUNT(*) FROM rules`), n)
	check(w.t, "rules whose ID is the seq of their change", queryInt(w.t, w.s, `SELECT COUNT(*) FROM changes c JOIN rules r
		ON r.id = c.seq AND r.key = c.key AND c.actor = r.owner AND c.rid LIKE 'rid of ' || r.owner || '%'`), n)
	checkAuditLog(w.t, w.s)
}

// checkCanceled reports an error unless err is the cause with which a test cancels the context of a caller.
func checkCanceled(t *testing.T, err error) {
	t.Helper()
	assert.True(t, err != nil && err.Error() == errDisconnected.Error(), "a canceled change = %v, want %v", err, errDisconnected)
}

var errDisconnected = errors.New("the caller disconnected")

func TestGroupCommit_WaitingChangesMerged(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		var all []<-chan error
		for i := range 20 {
			all = append(all, w.addNumbered(t.Context(), fmt.Sprint("owner", i), 0))
		}
		w.release()
		for i, err := range all {
			assert.NoErrorf(t, (<-err), "owner%d", i)
		}
		check(t, "transactions of 20 changes", w.transactions(), 1)
		w.check(21)
	})
}

func TestGroupCommit_OneChangeFails(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		good := w.addNumbered(t.Context(), "good", 0)
		refused := w.enqueue(func() error {
			return w.service.Publish(t.Context(), w.owner("refused"), "https://refused.example/none/")
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		canceled := w.addNumbered(ctx, "gone", 0)
		// A panic reaches the caller.
		panicked := w.enqueue(func() (err error) {
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			return w.s.ChangeRules(t.Context(), "panics", "https://panics.example", func(rules.Tx) error { panic("of a caller") })
		})
		tail := w.addNumbered(t.Context(), "tail", 0)
		cancel(errDisconnected)
		checkCanceled(t, <-canceled)
		w.release()
		assert.ErrorIs(t, (<-refused), errcode.InvalidArgs, "a publish of a rule that does not exist")
		err := <-panicked
		assert.True(t, err != nil && err.Error() == "panic: of a caller", "error of a change that panics = %v, want the panic", err)
		assert.NoErrorf(t, errors.Join(<-good, <-tail), "the other changes of the group")
		check(t, "transactions of the other changes", w.transactions(), 1)
		w.check(3)
	})
}

func TestGroupCommit_FaultIsolated(t *testing.T) {
	for name, fault := range map[string]func(context.Context, *Tx) error{
		"a query that fails": func(ctx context.Context, tx *Tx) error {
			return tx.row(ctx, `SELECT 1 / (id - id) FROM rules`).Scan(new(int))
		},
		"a write that fails": func(ctx context.Context, tx *Tx) error {
			return tx.execQueued(ctx, nil, `INSERT INTO rules (id) VALUES (1)`)
		},
		"an update of a row that does not exist": func(ctx context.Context, tx *Tx) error {
			return tx.rules().PutRule(ctx, rules.Rule{ID: 1 << 40, Kind: rules.Ordinary}, rules.ChangeMeta{Action: "edit"})
		},
		"a lock of another owner": func(ctx context.Context, tx *Tx) error {
			if err := tx.LockOwner(ctx, "stranger"); err != nil {
				return err
			}
			return errors.New("rejected")
		},
	} {
		t.Run(name, func(t *testing.T) {
			withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
				good := w.addNumbered(t.Context(), "good", 0)
				bad := w.enqueue(func() error {
					return w.s.ChangeRules(t.Context(), "bad", "https://bad.example", func(tx rules.Tx) error {
						return fault(t.Context(), tx.(ruleQueries).Tx)
					})
				})
				tail := w.addNumbered(t.Context(), "tail", 0)
				w.release()
				err := <-bad
				assert.True(t, err != nil && !errors.Is(err, errUngrouped), "the change that fails = %v, want its own error", err)
				assert.NoErrorf(t, errors.Join(<-good, <-tail), "the other changes of the group")
				w.check(3)
			})
		})
	}
}

func TestGroupCommit_NoWaitForOtherOwner(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		held, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- w.s.update(context.Background(), func(tx *Tx) error {
				err := tx.LockOwner(context.Background(), "busy")
				close(held)
				<-release
				return err
			})
		}()
		<-held
		busy := w.addNumbered(t.Context(), "busy", 0)
		good := w.addNumbered(t.Context(), "good", 0)
		w.release()
		assert.NoErrorf(t, (<-good), "a change of another owner")
		select {
		case err := <-busy:
			t.Errorf("the change of a locked owner = %v, want it to wait", err)
		default:
		}
		close(release)
		assert.NoError(t, errors.Join(<-busy, <-ended))
		w.check(3)
	})
}

// TestGroupCommit_LongWaitersSoloLimit verifies that at most maxImpatient changes that waited for long run alone at the same time.
func TestGroupCommit_LongWaitersSoloLimit(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		w.s.committer.wait = time.Millisecond
		var all []<-chan error
		const changes = 20
		for i := range changes {
			err := make(chan error, 1)
			owner := fmt.Sprint("owner", i)
			all = append(all, err)
			w.all.Go(func() {
				err <- addRule(t.Context(), w.service, w.owner(owner), "rid of "+owner, fmt.Sprintf("https://%s.example/", owner), false)
			})
		}
		waitFor(w.t, "maxImpatient changes to wait for the head alone, and the others in the queue", func() bool {
			w.s.committer.mu.Lock()
			defer w.s.committer.mu.Unlock()
			return len(w.s.committer.waiting) == changes-maxImpatient && countLockWaiters(w.t, w.s) == 1+maxImpatient
		})
		w.release()
		for _, err := range all {
			assert.NoError(t, (<-err))
		}
		w.check(1 + changes)
		assert.Equal(t, w.s.committer.impatient, 0, "changes that run alone")
	})
}

// TestGroupCommit_LateChangesJoin verifies that changes that are queued while a group waits for the head of the log are committed by its
// transaction.
func TestGroupCommit_LateChangesJoin(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		var all []<-chan error
		for i := range 4 {
			all = append(all, w.addNumbered(t.Context(), fmt.Sprint("owner", i/2), i))
		}
		w.release()
		for i, err := range all {
			assert.NoErrorf(t, (<-err), "change %d", i)
		}
		w.check(1 + int64(len(all)))
		check(t, "transactions that wrote the rules", queryInt(t, w.s, `SELECT COUNT(DISTINCT xmin::text) FROM rules`), 1)
	})
}

// TestGroupCommit_StepsLimited verifies that a group has at most maxSteps changes that share an owner or an origin, and also later changes
// of other owners.
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
	assert.Equal(t, len(all), 2*maxSteps+1, "changes of an owner, an origin and another owner")
	assert.Equal(t, len(steps(all)), maxSteps, "steps of the group")
	assert.Equal(t, len(g.waiting), 6, "queued changes")
}

// TestGroupCommit_LostCommitResponse terminates the session during the commit of a group. Each caller gets errcode.Unavailable, and no
// change is repeated.
func TestGroupCommit_LostCommitResponse(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		mustExec(t, w.s, `CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'`)
		mustExec(t, w.s, `CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON rules DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
			WHEN (NEW.owner <> 'first') EXECUTE FUNCTION end_session()`)
		w.wantError = true
		var all []<-chan error
		for i := range 3 {
			all = append(all, w.addNumbered(t.Context(), fmt.Sprint("owner", i), 0))
		}
		w.release()
		for i, err := range all {
			err := <-err
			_, ok := errors.AsType[*errcode.Unavailable](err)
			assert.True(t, ok, "the change of owner%d = %v, want errcode.Unavailable", i, err)
		}
		w.check(0)
	})
}

// TestGroupCommit_SoloAfterStall verifies that changes run alone if a query of a change waits for a lock while the group holds the head of
// the log.
func TestGroupCommit_SoloAfterStall(t *testing.T) {
	s := open(t, newPostgres(t))
	s.committer.lockTimeout = 100 * time.Millisecond
	held, err := s.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer held.Rollback()
	require.NoError(t, assert.ErrorOf(held.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(48)`)))
	errs := make(chan error, 3)
	for i := range cap(errs) {
		go func() {
			errs <- s.ChangeRules(t.Context(), fmt.Sprint("owner", i), fmt.Sprint("origin", i), func(tx rules.Tx) error {
				return tx.(ruleQueries).row(t.Context(), `SELECT 1 FROM pg_advisory_xact_lock_shared(48)`).Scan(new(int))
			})
		}()
	}
	waitFor(t, "three changes to wait for the lock, each in its own session", func() bool { return countLockWaiters(t, s) == 3 })
	require.NoError(t, held.Rollback())
	for range cap(errs) {
		assert.NoErrorf(t, <-errs, "a change that waited for a lock")
	}
}

// TestGroupCommit_SharedOwnersMerged verifies that changes of three owners on a host are committed in one transaction, in order, and that
// each sees the rules of the changes before it.
func TestGroupCommit_SharedOwnersMerged(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		add := func(owner string, path int) <-chan error {
			return w.add(t.Context(), owner, fmt.Sprintf("https://shared.example/%d/", path))
		}
		var stored, taken, full []<-chan error
		stored = append(stored, add("owner1", 1), add("owner2", 2), add("owner1", 3), add("owner2", 4))
		taken = append(taken, add("owner3", 2), add("owner3", 3))   // prefixes of other owners
		full = append(full, add("owner1", 5), add("owner2", 6))     // the limit is 2
		stored = append(stored, add("owner3", 5), add("owner3", 6)) // added by no other change
		w.release()
		for want, all := range map[error][]<-chan error{nil: stored, errcode.PrefixOwned: taken, errcode.PrefixLimit: full} {
			for i, err := range all {
				assert.ErrorIs(t, <-err, want, "change %d", i)
			}
		}
		w.all.Wait()
		check(t, "transactions of three owners", w.transactions(), 1)
		w.check(1 + int64(len(stored)))
	})
}

// TestGroupCommit_RefusalOnlyAfterCommit has a change that is rejected because of a rule that an earlier change of its group adds. The
// group fails and the earlier change is canceled, so that the rejected change runs again and succeeds.
func TestGroupCommit_RefusalOnlyAfterCommit(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		ctx, cancel := context.WithCancelCause(t.Context())
		const prefix = "https://shared.example/1/"
		canceled, rejected := w.add(ctx, "owner1", prefix), w.add(t.Context(), "owner2", prefix)
		failed := w.enqueue(func() error {
			return w.s.ChangeRules(t.Context(), "owner3", "https://shared.example", func(tx rules.Tx) error {
				cancel(errDisconnected)
				return tx.(ruleQueries).Tx.execQueued(t.Context(), nil, `INSERT INTO rules (id) VALUES (1)`)
			})
		})
		w.release()
		assert.NoErrorf(t, <-rejected, "the change that is rejected in the failed group")
		checkCanceled(t, <-canceled)
		err := <-failed
		assert.True(t, err != nil && !errors.Is(err, errUngrouped), "the change that fails = %v, want the error of its statement", err)
		w.check(2)
	})
}

// TestGroupCommit_CancelledWithinGroup cancels a change while an earlier change of its group runs.
func TestGroupCommit_CancelledWithinGroup(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		ctx, cancel := context.WithCancelCause(t.Context())
		began, proceed := make(chan struct{}), make(chan struct{})
		earlier := w.enqueue(func() error {
			return w.s.ChangeRules(t.Context(), "owner1", "origin", func(rules.Tx) error {
				close(began)
				<-proceed
				return nil
			})
		})
		canceled := w.addNumbered(ctx, "owner1", 1)
		tail := w.addNumbered(t.Context(), "owner1", 2)
		w.release()
		<-began
		cancel(errDisconnected)
		close(proceed)
		checkCanceled(t, <-canceled)
		assert.NoErrorf(t, errors.Join(<-earlier, <-tail), "the other changes of the group")
		w.check(2)
	})
}

// TestGroupCommit_SoloAfterImportConflict verifies that changes of an owner that conflicted with an import run alone for a while, so that
// they do not break up a group.
func TestGroupCommit_SoloAfterImportConflict(t *testing.T) {
	withQueuedChanges(t, func(t *testing.T, w *queuedChanges) {
		w.s.committer.ungroupOwner("met")
		solo := make(chan error, 1)
		w.all.Go(func() {
			solo <- addRule(t.Context(), w.service, w.owner("met"), "rid of met", "https://met.example/", false)
		})
		waitFor(w.t, "the change of the owner to wait for the head alone", func() bool { return countLockWaiters(w.t, w.s) == 2 })
		grouped := w.addNumbered(t.Context(), "other", 0)
		w.release()
		assert.NoError(t, errors.Join(<-solo, <-grouped))
		w.check(3)
	})
}
