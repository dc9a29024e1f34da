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

// TestWriteHealth_ConcurrentProbesShared verifies that concurrent callers share the result of one probe, and that a caller runs its own
// probe if the first caller is canceled.
func TestWriteHealth_ConcurrentProbesShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var health writeHealth
		held := errors.New("held")
		for name, c := range map[string]struct {
			result   error
			canceled bool
			probes   int
		}{"success": {nil, false, 1}, "failure": {held, false, 1}, "the first caller is canceled": {held, true, 2}} {
			probes, release := 0, make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			go func() {
				first <- health.share(ctx, func() error {
					probes++
					<-release
					return c.result
				})
			}()
			synctest.Wait()
			go func() {
				second <- health.share(t.Context(), func() error {
					probes++
					return nil
				})
			}()
			synctest.Wait()
			if len(second) > 0 {
				t.Errorf("%s: the second call returns %v before the probe ends", name, <-second)
			}
			if c.canceled {
				cancel()
			}
			close(release)
			want := c.result
			if c.canceled {
				want = nil
			}
			err1, err2 := <-first, <-second
			assert.True(t, err1 == c.result && err2 == want && probes == c.probes,
				"%s: results %v, %v of %d probes, want %v, %v of %d", name,
				err1, err2, probes, c.result, want, c.probes)
			cancel()
		}
	})
}

// TestPostgresSession_ReadOnlyReplaced verifies that changes succeed when a database is no longer read-only, although sessions that began
// before stay read-only.
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
	outage, ok := errors.AsType[*errcode.Unavailable](change())
	require.True(t, ok && outage.Condition == readOnlyDatabase, "a change in a read-only database = %v, want an outage", outage)
	set("off")
	assert.NoErrorf(t, errors.Join(change(), s.Ping(t.Context())), "a change after the database is writable")
}
