package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// exportState returns the tables that a snapshot has, in the format of an archive.
func exportState(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := exportTables(t, s)
	maps.DeleteFunc(all, func(name string, _ string) bool {
		table, _ := tableOf(name)
		return table.keptOnReset || table.log
	})
	delete(all, "webhook_readers") // is reset
	return all
}

// TestStoreSnapshot_RoundTrip verifies that a snapshot restores its tables, empties the logs and keeps the other tables.
func TestStoreSnapshot_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx, createdAt := t.Context(), time.UnixMilli(1_800_000_000_000)
		fillTables(t, s)
		// Random values are not valid in these tables, whose restore is tested in package server.
		for _, table := range []string{"rules", "accounts", "links", "gs1_links", "code_events"} {
			mustExec(t, s, `DELETE FROM `+table)
		}
		want := exportState(t, s)
		snapshot, err := s.SaveState(ctx, "full", "test", createdAt)
		require.True(t, err == nil && snapshot.Rules == 0 && snapshot.Batches == 3 && snapshot.Bytes != 0,
			"SaveState() = %+v, %v", snapshot, err)
		before := exportTables(t, s)
		head, _, err := s.ChangeHead(ctx)
		require.NoError(t, err)
		require.NoError(t, s.Reset(ctx))
		snapshot, err = s.LoadState(ctx, "full")
		require.True(t, err == nil && snapshot.Name == "full" && snapshot.At.Equal(createdAt), "LoadState() = %+v, %v", snapshot, err)
		got := exportState(t, s)
		for name := range want {
			assert.Equal(t, got[name], want[name], "table %s", name)
		}
		now := exportTables(t, s)
		for _, table := range []string{"admin_keys", "people", "scan_keys"} {
			assert.True(t, now[table] != "" && now[table] == before[table], "table %s = %s, want %s", table, now[table], before[table])
		}
		for _, table := range []string{"scan_events", "code_counts", "statistics_counts", "call_blocks"} {
			assert.Equal(t, now[table], "", "table %s", table)
		}
		next, _, err := s.ChangeHead(ctx)
		assert.True(t, err == nil && next > head, "last seq = %d, %v, want more than %d", next, err, head)
		check(t, "changes", queryInt(t, s, `SELECT COUNT(*) FROM changes`), 1)
	})
}

func TestStoreSnapshot_FailureChangesNothing(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		fillTables(t, s)
		for n := range MaxSaved {
			require.NoError(t, assert.ErrorOf(s.SaveState(ctx, fmt.Sprint("n", n), "test", time.Now())))
		}
		_, err := s.SaveState(ctx, "more", "test", time.Now())
		assert.ErrorIs(t, err, ErrManySaved, "SaveState() above the limit")
		assert.NoError(t, assert.ErrorOf(s.SaveState(ctx, "n3", "replaced", time.Now())))
		want := exportTables(t, s)
		mustExec(t, s, `UPDATE snapshots SET schema = 999 WHERE name = $1`, "n1")
		mustExec(t, s, `UPDATE snapshots SET data = SUBSTR(data, 1, LENGTH(data) - 400) WHERE name = $1`, "n2")
		mustExec(t, s, `UPDATE snapshots SET data = '***' WHERE name = $1`, "n4")
		for i, rows := range map[int]savedTable{
			5: {"batches", "{\"id\":1"}, 6: {"batches", "{\"id\":1}\n"}, 7: {"nothing", ""},
			9: {"seeds", `{"hash":"a","applied_at":1}` + "\n" + `{"hash":"a","applied_at":2}` + "\n"},
		} {
			var text bytes.Buffer
			zip := gzip.NewWriter(&text)
			require.NoError(t, errors.Join(json.NewEncoder(zip).Encode(rows), zip.Close()))
			data := base64.StdEncoding.EncodeToString(text.Bytes())
			mustExec(t, s, `UPDATE snapshots SET data = $1 WHERE name = $2`, data, fmt.Sprint("n", i))
		}
		for name, want := range map[string]error{"nothing": ErrNotSaved, "n1": ErrSavedByNewer, "n2": ErrDamaged, "n4": ErrDamaged,
			"n5": ErrDamaged, "n6": ErrDamaged, "n7": ErrDamaged, "n9": ErrDamaged} {
			assert.ErrorIs(t, assert.ErrorOf(s.LoadState(ctx, name)), want, "LoadState(%s)", name)
		}
		assert.True(t, maps.Equal(exportTables(t, s), want), "a failed LoadState() changed the tables")
		assert.ErrorIs(t, s.DeleteSaved(ctx, "nothing"), ErrNotSaved, "DeleteSaved() of an unknown snapshot")
		assert.NoError(t, s.DeleteSaved(ctx, "n3"))
		all, err := s.SavedStates(ctx)
		assert.True(t, err == nil && len(all) == MaxSaved-1 && all[0].Name == "n0" && all[0].Program == "test",
			"SavedStates() = %+v, %v", all, err)
	})
}

// TestLoadState_WhileCounting begins a load, and a reset, while another node counts statistics in a transaction that is not committed yet.
// The counts do not remain.
func TestLoadState_WhileCounting(t *testing.T) {
	for name, begin := range map[string]func(context.Context, *Store) error{
		"load": func(ctx context.Context, s *Store) error {
			_, err := s.LoadState(ctx, "empty")
			return err
		},
		"reset": func(ctx context.Context, s *Store) error { return s.Reset(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			_, nodes, _, _, _ := openTwoNodes(t)
			require.NoError(t, assert.ErrorOf(nodes[0].SaveState(t.Context(), "empty", "test", time.Now())))
			counted, commit, ended := make(chan struct{}), make(chan struct{}), make(chan error, 2)
			go func() {
				ended <- nodes[1].UpdateStatistics(t.Context(), func(tx stats.Tx) error {
					if err := tx.LockStatistics(t.Context()); err != nil {
						return err
					}
					err := errors.Join(tx.AddMisses(t.Context(), []stats.UnmatchedRow{{Bucket: 1, Location: "p", Scans: 7}}),
						tx.PutStatisticsState(t.Context(), stats.State{LogID: "former", CountedOffset: 7, Scans: 7}))
					close(counted)
					<-commit
					return err
				})
			}()
			<-counted
			loaded := make(chan struct{})
			go func() {
				ended <- begin(t.Context(), nodes[0])
				close(loaded)
			}()
			waitFor(t, "the load to wait, or to end", func() bool { return isClosed(loaded) || countLockWaiters(t, nodes[0]) > 0 })
			close(commit)
			require.NoError(t, errors.Join(<-ended, <-ended))
			check(t, "rows of unmatched scans", queryInt(t, nodes[0], `SELECT COUNT(*) FROM statistics_unmatched`), 0)
			check(t, "states", queryInt(t, nodes[0], `SELECT COUNT(*) FROM statistics_state`), 0)
		})
	}
}

// TestStoreSnapshot_TooLarge verifies the size limit, which applies to the uncompressed rows.
func TestStoreSnapshot_TooLarge(t *testing.T) {
	full := &limited{left: 10}
	require.NoError(t, assert.ErrorOf(full.Write(make([]byte, 10))))
	assert.ErrorIs(t, assert.ErrorOf(full.Write([]byte{1})), ErrLargeState, "a write above the limit")
}
