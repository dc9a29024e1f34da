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

// stateIn is what a saved state has of a store: its tables as an archive has them.
func stateIn(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := rowsOf(t, s)
	maps.DeleteFunc(all, func(name string, _ string) bool {
		table, _ := tableOf(name)
		return table.keptOnReset || table.log
	})
	delete(all, "webhook_readers") // begins anew
	return all
}

// Every table comes back; logs are empty, and what is kept stays.
func TestStoreSnapshot_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, at := t.Context(), time.UnixMilli(1_800_000_000_000)
		fillAll(t, s)
		// Rows of any values would be no rules; that these come back, a test of the server says.
		for _, table := range []string{"rules", "accounts", "links", "gs1_links", "code_events"} {
			set(t, s, `DELETE FROM `+table)
		}
		want := stateIn(t, s)
		one, err := s.SaveState(ctx, "full", "test", at)
		require.True(t, err == nil && one.Rules == 0 && one.Batches == 3 && one.Bytes != 0, "%+v %v", one, err)
		kept := rowsOf(t, s)
		head, _, err := s.ChangeHead(ctx)
		require.NoError(t, err)
		require.NoError(t, s.Reset(ctx))
		one, err = s.LoadState(ctx, "full")
		require.True(t, err == nil && one.Name == "full" && one.At.Equal(at), "%+v %v", one, err)
		got := stateIn(t, s)
		for name := range want {
			assert.Equal(t, got[name], want[name], "%s", name)
		}
		now := rowsOf(t, s)
		for _, table := range []string{"admin_keys", "people", "scan_keys"} {
			assert.True(t, now[table] != "" && now[table] == kept[table], "%s: %s became %s", table, kept[table], now[table])
		}
		for _, table := range []string{"scan_events", "code_counts", "statistics_counts", "call_blocks"} {
			assert.Equal(t, now[table], "", "%s", table)
		}
		next, _, err := s.ChangeHead(ctx)
		assert.True(t, err == nil && next > head, "the last change was %d, and is %d: %v", head, next, err)
		n := number(t, s, `SELECT COUNT(*) FROM changes`)
		assert.True(t, n == 1, "the log begins anew with %d changes", n)
	})
}

func TestStoreSnapshot_FailureChangesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		fillAll(t, s)
		for n := range MaxSaved {
			require.NoError(t, assert.ErrorOf(s.SaveState(ctx, fmt.Sprint("n", n), "test", time.Now())))
		}
		_, err := s.SaveState(ctx, "more", "test", time.Now())
		assert.True(t, errors.Is(err, ErrManySaved), "%v", err)
		assert.NoError(t, assert.ErrorOf(s.SaveState(ctx, "n3", "again", time.Now())))
		want := rowsOf(t, s)
		set(t, s, `UPDATE snapshots SET schema = 999 WHERE name = $1`, "n1")
		set(t, s, `UPDATE snapshots SET data = SUBSTR(data, 1, LENGTH(data) - 400) WHERE name = $1`, "n2")
		set(t, s, `UPDATE snapshots SET data = '***' WHERE name = $1`, "n4")
		for i, rows := range map[int]savedTable{
			5: {"batches", "{\"id\":1"}, 6: {"batches", "{\"id\":1}\n"}, 7: {"nothing", ""},
			9: {"seeds", `{"hash":"a","applied_at":1}` + "\n" + `{"hash":"a","applied_at":2}` + "\n"},
		} {
			var text bytes.Buffer
			zip := gzip.NewWriter(&text)
			require.NoError(t, errors.Join(json.NewEncoder(zip).Encode(rows), zip.Close()))
			set(t, s, `UPDATE snapshots SET data = $1 WHERE name = $2`, base64.StdEncoding.EncodeToString(text.Bytes()), fmt.Sprint("n", i))
		}
		for name, want := range map[string]error{"nothing": ErrNotSaved, "n1": ErrSavedByNewer, "n2": ErrDamaged, "n4": ErrDamaged,
			"n5": ErrDamaged, "n6": ErrDamaged, "n7": ErrDamaged, "n9": ErrDamaged} {
			_, err := s.LoadState(ctx, name)
			assert.ErrorIs(t, err, want, "LoadState(%s) = %v, want %v", name, err, want)
		}
		assert.True(t, maps.Equal(rowsOf(t, s), want), "something changed")
		err = s.DeleteSaved(ctx, "nothing")
		assert.True(t, errors.Is(err, ErrNotSaved), "%v", err)
		assert.NoError(t, s.DeleteSaved(ctx, "n3"))
		all, err := s.SavedStates(ctx)
		assert.True(t, err == nil && len(all) == MaxSaved-1 && all[0].Name == "n0" && all[0].Program == "test", "%+v %v", all, err)
	})
}

// TestLoadState_WhileCounting begins a load and a reset while a transaction of another node counts, which commits after it.
func TestLoadState_WhileCounting(t *testing.T) {
	for name, begin := range map[string]func(context.Context, *Store) error{
		"load": func(ctx context.Context, s *Store) error {
			_, err := s.LoadState(ctx, "empty")
			return err
		},
		"reset": func(ctx context.Context, s *Store) error { return s.Reset(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			_, nodes, _, _, _ := twoNodes(t)
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
			waitFor(t, "the load to wait, or to end", func() bool { return isClosed(loaded) || sessionsThatWait(t, nodes[0]) > 0 })
			close(commit)
			require.NoError(t, errors.Join(<-ended, <-ended))
			want(t, "rows of scans that found nothing", number(t, nodes[0], `SELECT COUNT(*) FROM statistics_unmatched`), 0)
			want(t, "states", number(t, nodes[0], `SELECT COUNT(*) FROM statistics_state`), 0)
		})
	}
}

// The rows of a state are counted before they are packed.
func TestStoreSnapshot_TooLarge(t *testing.T) {
	full := &limited{left: 10}
	require.NoError(t, assert.ErrorOf(full.Write(make([]byte, 10))))
	_, err := full.Write([]byte{1})
	assert.True(t, errors.Is(err, ErrLargeState), "%v", err)
}

func set(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.exec(ctx, query, args...)
		return err
	})
}
