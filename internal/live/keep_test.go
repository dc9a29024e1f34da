package live

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/index"
	"github.com/qrjump/qrjump/internal/rules"
)

func aKeptRule(t testing.TB, id int64, prefix string, tests ...string) rules.Rule {
	t.Helper()
	p, err := rules.ParsePrefix(prefix, rules.Ordinary, true)
	if err != nil {
		t.Fatal(err)
	}
	return rules.Rule{ID: id, Kind: rules.Ordinary, Owner: "owner", Target: "owner", Prefix: p, Path: "pages/p", OpenVersion: 1,
		Published: true, TestLinks: tests}
}

func someRules(t testing.TB) []rules.Rule {
	return []rules.Rule{
		aKeptRule(t, 1, "https://h.example/a/"),
		aKeptRule(t, 2, "https://h.example/a/b", "https://h.example/a/b", "https://h.example/a/b?t=1"),
		aKeptRule(t, 3, "https://h.example"),
	}
}

// opens is what some links fall on.
func opens(t testing.TB, c *Current) (found []rules.Rule) {
	t.Helper()
	for _, text := range []string{"https://h.example/a/x", "https://h.example/a/b", "https://h.example/a/b?t=1", "https://h.example",
		"https://h.example/new"} {
		link, ok := rules.ParseLink(text)
		if !ok {
			t.Fatal(text)
		}
		found = append(append(found, c.Rules.Matching(link)...), c.Rules.Testing(text)...)
	}
	return found
}

// A store of rules and the log of their changes, in memory.
type keptStore struct {
	rules.Store
	now     map[string]rules.Rule
	changes []Change
	loads   int
}

func (s *keptStore) commit(kind string, r rules.Rule, gone bool) {
	if delete(s.now, r.Prefix.Key); !gone && kind == RuleChange {
		s.now[r.Prefix.Key] = r
	}
	seq := int64(len(s.changes) + 1)
	s.changes = append(s.changes, Change{Seq: seq, Hash: "h" + strconv.Itoa(int(seq)), Kind: kind, Key: r.Prefix.Key})
}

func (s *keptStore) ChangeHead(context.Context) (int64, string, error) {
	n := len(s.changes)
	if n == 0 {
		return 0, "", nil
	}
	return int64(n), s.changes[n-1].Hash, nil
}

func (s *keptStore) ChangesFrom(_ context.Context, from int64, limit int) (list []Change, err error) {
	for _, c := range s.changes {
		if c.Seq >= from && len(list) < limit {
			if r, ok := s.now[c.Key]; ok && c.Kind == RuleChange {
				c.Rule = &r
			}
			list = append(list, c)
		}
	}
	return list, nil
}

func (s *keptStore) Listen(context.Context) (Bell, error) { return nil, errors.New("nobody rings") }

// nobody is a store without accounts.
type nobody struct{ accounts.Store }

func (nobody) ViewAccounts(_ context.Context, read func(accounts.Tx) error) error {
	return read(accountsTx{state: state{}})
}

func (s *keptStore) AllRules(context.Context) iter.Seq2[rules.Rule, error] {
	s.loads++
	return func(yield func(rules.Rule, error) bool) {
		for _, r := range s.now {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// The part of a snapshot that a crash left is removed by the next
// start: many crashes would fill the disk.
func TestAStartRemovesHalfSnapshots(t *testing.T) {
	s := &keptStore{now: map[string]rules.Rule{}}
	s.commit(RuleChange, someRules(t)[0], false)
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.snapshot")
	for _, name := range []string{file + ".new-123", file + ".new-4", file + ".mine"} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &Current{Rules: index.New(), Accounts: NewDirectory(), RuleStore: s, AccountStore: nobody{}, History: s, SnapshotFile: file,
		Log: slog.New(slog.DiscardHandler)}
	if err := errors.Join(c.Load(t.Context()), c.LastSnapshot(t.Context())); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(dir + "/*"); strings.Join(names, " ") != file+" "+file+".mine" {
		t.Errorf("there are %v", names)
	}
}

func TestAStartReadsTheSnapshotAndWhatChangedSince(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *keptStore, file string)
		loads  int    // from the store at the second start
		said   string // in the log
	}{
		"nothing changed": {func(*keptStore, string) {}, 0, "rules read from the snapshot"},
		"it is behind": {func(s *keptStore, _ string) {
			s.commit(RuleChange, aKeptRule(t, 11, "https://h.example/new"), false)
			s.commit(RuleChange, aKeptRule(t, 1, "https://h.example/a/"), true)
		}, 0, "rules read from the snapshot"},
		"a reset came after it": {func(s *keptStore, _ string) { s.commit(ResetChange, rules.Rule{}, false) }, 1, ""},
		"it is of another history": {func(s *keptStore, _ string) { s.changes[len(s.changes)-1].Hash = "other" }, 1,
			"not of this store"},
		"the store lost its last commits": {func(s *keptStore, _ string) { s.changes = s.changes[:1] }, 1, "not of this store"},
		"it is damaged": {func(_ *keptStore, file string) {
			b, _ := os.ReadFile(file)
			b[len(b)-3] ^= 1
			os.WriteFile(file, b, 0o600)
		}, 1, "refused"},
		"there is none": {func(_ *keptStore, file string) { os.Remove(file) }, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &keptStore{now: map[string]rules.Rule{}}
			for _, r := range someRules(t) {
				s.commit(RuleChange, r, false)
			}
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			var log bytes.Buffer
			start := func() *Current {
				c := &Current{Rules: index.New(), Accounts: NewDirectory(), RuleStore: s, AccountStore: nobody{}, History: s,
					SnapshotFile: file, Log: slog.New(slog.NewTextHandler(&log, nil))}
				if err := c.Load(t.Context()); err != nil {
					t.Fatal(err)
				}
				return c
			}
			if err := start().LastSnapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.change(s, file)
			log.Reset()
			s.loads = 0
			second := start()
			want := &Current{Rules: index.New()}
			if err := want.Rules.Load(s.AllRules(t.Context())); err != nil {
				t.Fatal(err)
			}
			s.loads-- // that one
			if got, want := opens(t, second), opens(t, want); !reflect.DeepEqual(got, want) {
				t.Errorf("after the start links fall on %v, want %v", got, want)
			}
			if s.loads != c.loads || !strings.Contains(log.String(), c.said) || strings.Count(log.String(), "\n") > 1 {
				t.Errorf("the store was read %d times, want %d; said %s", s.loads, c.loads, log.String())
			}
		})
	}
}
