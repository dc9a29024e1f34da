package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// blockHeadHolder makes the session of a node wait while it holds the end of the audit log, for which every other change has to wait. table
// is a table that a change writes to afterwards: a session of the test locks it, calls begin, which starts changes, and holds the lock
// until release is called.
func blockHeadHolder(t testing.TB, database, table string, begin func()) (node, pid int, release func()) {
	t.Helper()
	session := openSession(t, database)
	execSQL(t, session, `BEGIN`)
	execSQL(t, session, `LOCK TABLE `+table+` IN SHARE MODE`)
	begin()
	// pg_locks shows a lock of the row as one of its table. A session that still waits for the row does not wait for the other table yet.
	waitFor(t, "a session of a node to hold the head", func() bool {
		err := session.QueryRow(context.Background(), `SELECT replace(s.application_name, 'node', '')::int, pid FROM pg_locks waits
			JOIN pg_locks holds USING (pid) JOIN pg_stat_activity s USING (pid)
			WHERE NOT waits.granted AND waits.relation = '`+table+`'::regclass AND s.application_name LIKE 'node%'
			AND holds.granted AND holds.relation = 'audit_log_head'::regclass AND holds.mode = 'RowShareLock'`).Scan(&node, &pid)
		require.True(t, err == nil || errors.Is(err, pgx.ErrNoRows), "%v", err)
		return err == nil
	})
	return node, pid, func() {
		execSQL(t, session, `ROLLBACK`)
		session.Close(context.Background())
	}
}

// TestHeadLock_HolderPaused stops a node (SIGSTOP, like a paused machine) while every change of the cluster has to wait for its lock. The
// other node works again when PostgreSQL has ended the session; the stopped node reports the true outcome when it continues.
func TestHeadLock_HolderPaused(t *testing.T) {
	for name, table := range map[string]string{"before the change is logged": "rules", "while the change is logged": "changes"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, newDatabase(t), spaceSeed, 2)
			c.start()
			c.waitUntilReady()
			stopped := newRuleWriter(t, c.nodes[0].running.Load().URL)
			writer := newRuleWriter(t, c.nodes[1].running.Load().URL)
			stopped.n = 1000 // prefixes differ from those of the other writer
			const prefix = "https://shop.example/stopped/"
			answer := make(chan int, 1)
			_, _, release := blockHeadHolder(t, c.database, table, func() {
				go func() {
					got, err := stopped.wire("qrcodejumpadd", stopped.token, add(prefix, "pages/x"))
					assert.True(t, err == nil, "the stopped node sent no response: %v", err)
					answer <- got.ErrCode
				}()
			})
			c.nodes[0].running.Load().signal(syscall.SIGSTOP)
			release()
			// A failed change takes ten seconds. An earlier, longer session limit caused thirty failures; with 5 s all changes wait.
			failed := 0
			waitFor(t, "an add on the other node to succeed", func() bool {
				got := writer.add()
				if got == -1 {
					failed++
				}
				return got == 0
			})
			assert.True(t, failed <= 6, "%d consecutive changes failed while a node was stopped, want at most 6", failed)
			c.nodes[0].running.Load().signal(syscall.SIGCONT)
			got := <-answer
			_, found := writer.rules(writer.token)[prefix]
			assert.True(t, (got == 0 || got == -1) && found == (got == 0), "the stopped node returned %d, and the rule exists: %v", got,
				found)
			t.Logf("%d changes failed meanwhile; the stopped node returned %d", failed, got)
			c.waitUntilReady()
			assert.Equal(t, stopped.add(), 0, "errcode of the next change on the stopped node")
			writer.checkRules()
			c.stop()
		})
	}
}

// TestHeadLock_NodesStayReady holds the head of the audit log in another session: changes fail, and the node stays ready, so that no load
// balancer removes all nodes. When the lock is free, changes succeed again.
func TestHeadLock_NodesStayReady(t *testing.T) {
	database := newDatabase(t) + "&lock_timeout=500ms"
	c := newCluster(t, database, spaceSeed, 1)
	c.start()
	c.waitUntilReady()
	writer := newRuleWriter(t, c.nodes[0].serverURL())
	address, _, _ := strings.Cut(database, "&lock_timeout")
	session := openSession(t, address)
	execSQL(t, session, `BEGIN`)
	execSQL(t, session, `SELECT 1 FROM audit_log_head FOR UPDATE`)
	writer.addUntilError()
	for range 3 {
		ready := mustSend(t, http.MethodGet, writer.base+"/readyz", "", "", "")
		assert.Equal(t, ready.status, http.StatusOK, "status of /readyz while a lock is held: %s", ready.body)
	}
	execSQL(t, session, `ROLLBACK`)
	writer.waitForAdd()
	writer.checkRules()
	c.stop()
}

// TestPostgresSessions_TerminatedUnderLoad terminates all sessions of the database repeatedly while clients read rules, scan codes and look
// codes up. No call may fail.
func TestPostgresSessions_TerminatedUnderLoad(t *testing.T) {
	database := newDatabase(t)
	seed := strings.Replace(spaceSeed, "rule_rate_limit: null", "rule_rate_limit: 900", 1)
	c := newCluster(t, database, seed, 1)
	c.start()
	admin := c.nodes[0].admin()
	base := admin.base
	key := admin.scanKey("load")
	brand := admin.stableToken("brand")
	shop := admin.stableToken("shop")
	batch := admin.apply(brand, "load", 10_000)
	admin.activate(brand, batch, 10_000, "shop")
	text := admin.codeText(batch, 7)

	clients := &clientGroup{t: t}
	var calls [3]atomic.Int64
	work := func(kind int, bearer string, call func(*connection) error) {
		for range 3 {
			conn := connect(t, base, bearer)
			clients.run(func() {
				assert.NoError(t, call(conn))
				calls[kind].Add(1)
			})
		}
	}
	work(0, "", func(c *connection) error {
		got, err := c.wire("qrcodejumpget", shop, map[string]any{})
		if err == nil && got.ErrCode != 0 && got.ErrCode != 44990 {
			err = fmt.Errorf("qrcodejumpget = %d %s, want 0 or 44990", got.ErrCode, got.ErrMsg)
		}
		return err
	})
	work(1, key, func(c *connection) error {
		d, err := c.scanAs(text, "u-1")
		if err == nil && !strings.Contains(d.Path, "code_ticket=") {
			err = fmt.Errorf("a scan of a code %v, want a ticket", d)
		}
		return err
	})
	work(2, adminToken, func(c *connection) error {
		var code struct {
			History []any `json:"history"`
		}
		err := c.do(http.MethodPost, "/admin/v1/codes/lookup", map[string]any{"application_id": batch, "code_index": 7}, &code)
		if err == nil && len(code.History) != 1 {
			err = fmt.Errorf("the history of a code has %d entries, want 1", len(code.History))
		}
		return err
	})
	session := openSession(t, database)
	times := choose(60, 12)
	for range times {
		before := [3]int64{calls[0].Load(), calls[1].Load(), calls[2].Load()}
		execSQL(t, session,
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		waitFor(t, "five more calls of each kind", func() bool {
			for kind := range calls {
				if calls[kind].Load() < before[kind]+5 && !t.Failed() {
					return false
				}
			}
			return true
		})
	}
	clients.stop()
	t.Logf("%d reads, %d scans of codes, %d look-ups while all sessions were terminated %d times", calls[0].Load(), calls[1].Load(),
		calls[2].Load(), times)
	c.stop()
}

// TestSIGTERM_ReadyzFailsFirst verifies that a server with a shutdown delay fails /readyz after SIGTERM and serves all other calls, and
// that a second SIGTERM ends it immediately.
func TestSIGTERM_ReadyzFailsFirst(t *testing.T) {
	c := newCluster(t, "", spaceSeed, 1)
	n := c.nodes[0]
	n.shutdownDelay = 10 * time.Minute // the second signal comes first
	n.start()
	p := n.running.Load()
	writer := newRuleWriter(t, p.URL)
	p.signal(syscall.SIGTERM)
	waitFor(t, "/readyz to report the shutdown", func() bool {
		ready := n.readyz("")
		return ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body, "stopping")
	})
	// New connections work, too.
	for range 3 {
		assert.Equal(t, newRuleWriter(t, p.URL).code("qrcodejumpget", writer.token, map[string]any{}).ErrCode, 0,
			"errcode of a read during the shutdown delay")
	}
	assert.Equal(t, writer.add(), 0, "errcode of a change during the shutdown delay")
	p.signal(syscall.SIGTERM)
	p.wait()
	if status, ok := p.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("after the second SIGTERM: %v, want an end by the signal\n%s", p.ProcessState, p.logTail())
	}
	n.running.Store(nil)
	n.shutdownDelay = 100 * time.Millisecond
	n.start()
	writer.base = n.running.Load().URL
	writer.checkRules()
	n.stop()
}
