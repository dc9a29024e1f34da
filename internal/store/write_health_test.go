package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 12: two balancers that ask at once hear the same, and not what was true
// before; one that asks while another gives up looks by itself.
func TestWriteHealth_ConcurrentProbesShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr writeHealth
		held := errors.New("held")
		for name, c := range map[string]struct {
			result error
			gone   bool
			looks  int
		}{"the lock is free": {nil, false, 1}, "it is held": {held, false, 1}, "the first gave up": {held, true, 2}} {
			looks, free := 0, make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			go func() {
				first <- tr.share(ctx, func() error {
					looks++
					<-free
					return c.result
				})
			}()
			synctest.Wait()
			go func() {
				second <- tr.share(t.Context(), func() error {
					looks++
					return nil
				})
			}()
			synctest.Wait()
			if len(second) > 0 {
				t.Errorf("%s: the second has an answer before the look has one: %v", name, <-second)
			}
			if c.gone {
				cancel()
			}
			close(free)
			want := c.result
			if c.gone {
				want = nil
			}
			one, two := <-first, <-second
			assert.True(t, one == c.result && two == want && looks == c.looks, "%s: %v, %v, %d looks", name, one, two, looks)
			cancel()
		}
	})
}

// A session refuses changes as long as it lives when it began while the database did: when the database takes changes again a node
// makes them, though nobody ended its sessions.
func TestPostgresSession_ReadOnlyReplaced(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	s := open(t, target)
	set := func(value string) {
		dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(target.URL)+` SET default_transaction_read_only = `+value)
	}
	change := func() error {
		return s.update(t.Context(), func(tx *Tx) error {
			return tx.rules().PutDomain(t.Context(), rules.Domain{Host: "h.example", Status: rules.Denied})
		})
	}
	set("on")
	dbtest.Exec(t, dbtest.Server(t), `SELECT pg_terminate_backend(pid, 600000) FROM pg_stat_activity
		WHERE datname = '`+dbtest.Name(target.URL)+`'`)
	out, is := errors.AsType[*errcode.Unavailable](change())
	require.True(t, is && out.Condition == readOnlyDatabase, "a change of a database that takes none: %v", out)
	set("off")
	assert.NoErrorf(t, errors.Join(change(), s.Ping(t.Context())), "when it takes them again")
}
