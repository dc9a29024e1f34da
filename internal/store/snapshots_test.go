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
)

// stateIn is what a saved state has of a store: its tables as an archive has them.
func stateIn(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := rowsOf(t, s)
	maps.DeleteFunc(all, func(name string, _ string) bool {
		table, _ := tableOf(name)
		return table.kept || table.log
	})
	delete(all, "webhook_readers") // begins anew
	return all
}

// Every table comes back; logs are empty, and what is kept stays.
func TestASavedStateComesBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, at := t.Context(), time.UnixMilli(1_800_000_000_000)
		fillAll(t, s)
		// Rows of any values would be no rules; that these come back, a test of the server says.
		for _, table := range []string{"rules", "accounts", "links", "gs1_links", "code_events"} {
			set(t, s, `DELETE FROM `+table)
		}
		want := stateIn(t, s)
		one, err := s.SaveState(ctx, "full", "test", at)
		if err != nil || one.Rules != 0 || one.Batches != 3 || one.Bytes == 0 {
			t.Fatalf("%+v %v", one, err)
		}
		kept := rowsOf(t, s)
		head, _, err := s.ChangeHead(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		if one, err := s.LoadState(ctx, "full"); err != nil || one.Name != "full" || !one.At.Equal(at) {
			t.Fatalf("%+v %v", one, err)
		}
		got := stateIn(t, s)
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s: %.300s is not %.300s", name, got[name], want[name])
			}
		}
		now := rowsOf(t, s)
		for _, table := range []string{"admin_keys", "people", "scan_keys"} {
			if now[table] == "" || now[table] != kept[table] {
				t.Errorf("%s: %s became %s", table, kept[table], now[table])
			}
		}
		for _, table := range []string{"scan_events", "code_counts", "statistics_counts", "call_blocks"} {
			if now[table] != "" {
				t.Errorf("%s has %s", table, now[table])
			}
		}
		if next, _, err := s.ChangeHead(ctx); err != nil || next <= head {
			t.Errorf("the last change was %d, and is %d: %v", head, next, err)
		}
		if n := number(t, s, `SELECT COUNT(*) FROM changes`); n != 1 {
			t.Errorf("the log begins anew with %d changes", n)
		}
	})
}

// A snapshot outlives an upgrade: in what schema 100 saved no text of a code has a template, and there are no GS1 links.
func TestWhatAnEarlierProgramSavedIsLoaded(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		err := json.NewEncoder(zip).Encode(savedTable{"batches", `{"id":7,"account":"svc","isv":"old","codes":1,"start":1,"prefix":"",` +
			`"version":"0","segment":1,"first_code":"","first_text":"","created_at":1,"proof":0}` + "\n"})
		if err = errors.Join(err, zip.Close()); err != nil {
			t.Fatal(err)
		}
		set(t, s, `INSERT INTO snapshots (name, at, program, schema, accounts, rules, batches, data)
			VALUES ('old', 1, '0.1.0', $1, 0, 0, 1, $2)`, firstSchema, base64.StdEncoding.EncodeToString(packed.Bytes()))
		if one, err := s.LoadState(t.Context(), "old"); err != nil || one.Schema != firstSchema {
			t.Fatal(one, err)
		}
		want(t, "batches", number(t, s, `SELECT COUNT(*) FROM batches WHERE id = 7 AND isv = 'old' AND template = ''`), 1)
	})
}

func TestWhatCannotBeSavedOrLoadedChangesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		fillAll(t, s)
		for n := range MaxSaved {
			if _, err := s.SaveState(ctx, fmt.Sprint("n", n), "test", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.SaveState(ctx, "more", "test", time.Now()); !errors.Is(err, ErrManySaved) {
			t.Error(err)
		}
		if _, err := s.SaveState(ctx, "n3", "again", time.Now()); err != nil {
			t.Error(err)
		}
		want := rowsOf(t, s)
		set(t, s, `UPDATE snapshots SET schema = 999 WHERE name = $1`, "n1")
		set(t, s, `UPDATE snapshots SET data = SUBSTR(data, 1, LENGTH(data) - 400) WHERE name = $1`, "n2")
		for name, is := range map[string]error{"nothing": ErrNotSaved, "n1": ErrSavedByNewer, "n2": nil} {
			if _, err := s.LoadState(ctx, name); err == nil || is != nil && !errors.Is(err, is) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := rowsOf(t, s); !maps.Equal(got, want) {
			t.Error("something changed")
		}
		if err := s.DeleteSaved(ctx, "nothing"); !errors.Is(err, ErrNotSaved) {
			t.Error(err)
		}
		if err := s.DeleteSaved(ctx, "n3"); err != nil {
			t.Error(err)
		}
		if all, err := s.SavedStates(ctx); err != nil || len(all) != MaxSaved-1 || all[0].Name != "n0" || all[0].Program != "test" {
			t.Errorf("%+v %v", all, err)
		}
	})
}

// The rows of a state are counted before they are packed.
func TestAStateThatIsTooLargeIsNotSaved(t *testing.T) {
	full := &limited{left: 10}
	if _, err := full.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := full.Write([]byte{1}); !errors.Is(err, ErrLargeState) {
		t.Error(err)
	}
}

func set(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.exec(ctx, query, args...)
		return err
	})
}
