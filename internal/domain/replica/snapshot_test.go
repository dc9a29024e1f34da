package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func aKeptRule(t testing.TB, id int64, prefix string, tests ...string) rules.Rule {
	t.Helper()
	p, err := rules.ParsePrefix(prefix, rules.Ordinary, true)
	require.NoError(t, err)
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
func opens(t testing.TB, c *Replica) (found []rules.Rule) {
	t.Helper()
	for _, text := range []string{"https://h.example/a/x", "https://h.example/a/b", "https://h.example/a/b?t=1", "https://h.example",
		"https://h.example/new"} {
		link, ok := rules.ParseLink(text)
		require.True(t, ok, "%v", text)
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
	read    int // entries of the log
}

// kept is a node of a store whose snapshot file is in a folder.
func (s *keptStore) node(t testing.TB, file string) *Replica {
	t.Helper()
	c := &Replica{Rules: index.New(), Accounts: NewAccounts(), RuleStore: s, AccountStore: nobody{}, History: s, SnapshotFile: file,
		Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, c.Load(t.Context()))
	return c
}

// manyRules adds rules of their own numbers.
func (s *keptStore) manyRules(t testing.TB, n int) {
	t.Helper()
	for range n {
		id := int64(len(s.changes) + 1)
		s.commit(RuleChange, aKeptRule(t, id, fmt.Sprintf("https://h.example/many/%d/", id)), false)
	}
}

// change changes one of the rules and tells a node.
func (s *keptStore) change(t testing.TB, c *Replica) {
	t.Helper()
	for key, r := range s.now {
		r.Path = "pages/" + strconv.Itoa(len(s.changes)%2)
		s.commit(RuleChange, r, false)
		c.RefreshRule(t.Context(), key)
		return
	}
}

func (s *keptStore) ViewRules(_ context.Context, read func(rules.Tx) error) error {
	return read(keptTx{of: s})
}

type keptTx struct {
	rules.Tx
	of *keptStore
}

func (tx keptTx) RulesAt(ctx context.Context, keys []string) (list []rules.Rule, err error) {
	for _, key := range keys {
		if r, err := tx.Rule(ctx, key); err == nil {
			list = append(list, r)
		}
	}
	return list, nil
}

func (tx keptTx) Rule(_ context.Context, key string) (rules.Rule, error) {
	r, ok := tx.of.now[key]
	if !ok {
		return r, rules.ErrNoRule
	}
	return r, nil
}

// sameRules fails unless a node has exactly the rules of its store.
func (s *keptStore) sameRules(t testing.TB, c *Replica) {
	t.Helper()
	assert.True(t, c.Rules.Len() == len(s.now), "%d rules, the store has %d", c.Rules.Len(), len(s.now))
	for key, r := range s.now {
		link, _ := rules.ParseLink(r.Prefix.Text)
		got := c.Rules.Matching(link)
		require.True(t, len(got) != 0 && got[0].Prefix.Key == key && got[0].Path == r.Path, "%s: %+v, the store has %+v", key, got, r)
	}
}

// upTo is the change up to which a file has every rule.
func upTo(t testing.TB, file string) int64 {
	t.Helper()
	s, err := index.ReadSnapshot(file)
	require.NoError(t, err)
	return s.Seq
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
	from = max(from, 1)
	if int(from) > len(s.changes) {
		return nil, nil
	}
	for _, c := range s.changes[from-1 : min(int(from)-1+limit, len(s.changes))] {
		if r, ok := s.now[c.Key]; ok && c.Kind == RuleChange {
			c.Rule = &r
		}
		list = append(list, c)
	}
	s.read += len(list)
	return list, nil
}

func (s *keptStore) Updates() int64 { return int64(len(s.changes)) }

func (s *keptStore) Listen(context.Context) (Notifier, error) { return nil, errors.New("nobody rings") }

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

// The part of a snapshot that a crash left is removed by the next start: many crashes would fill the disk.
func TestKeepStart_RemovesPartialSnapshots(t *testing.T) {
	s := &keptStore{now: map[string]rules.Rule{}}
	s.commit(RuleChange, someRules(t)[0], false)
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.snapshot")
	for _, name := range []string{file + ".new-123", file + ".new-4", file + ".mine"} {
		require.NoError(t, os.WriteFile(name, []byte("half"), 0o600))
	}
	c := &Replica{Rules: index.New(), Accounts: NewAccounts(), RuleStore: s, AccountStore: nobody{}, History: s, SnapshotFile: file,
		Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, errors.Join(c.Load(t.Context()), c.SaveSnapshot(t.Context())))
	names, _ := filepath.Glob(dir + "/*")
	assert.True(t, strings.Join(names, " ") == file+" "+file+".mine", "there are %v", names)
}

func TestKeepStart_SnapshotPlusChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *keptStore, file string)
		loads  int    // from the store at the second start
		said   string // in the log
	}{
		"nothing changed": {func(*keptStore, string) {}, 0, "rules loaded from the snapshot"},
		"it is behind": {func(s *keptStore, _ string) {
			s.commit(RuleChange, aKeptRule(t, 11, "https://h.example/new"), false)
			s.commit(RuleChange, aKeptRule(t, 1, "https://h.example/a/"), true)
		}, 0, "rules loaded from the snapshot"},
		"a reset came after it": {func(s *keptStore, _ string) { s.commit(ResetChange, rules.Rule{}, false) }, 1, ""},
		"it belongs to another audit log": {func(s *keptStore, _ string) { s.changes[len(s.changes)-1].Hash = "other" }, 1,
			"is stale"},
		"the store lost its last commits": {func(s *keptStore, _ string) { s.changes = s.changes[:1] }, 1, "is stale"},
		"it is damaged": {func(_ *keptStore, file string) {
			b, _ := os.ReadFile(file)
			b[len(b)-3] ^= 1
			os.WriteFile(file, b, 0o600)
		}, 1, "rejected"},
		"it is of another format": {func(_ *keptStore, file string) {
			b, _ := os.ReadFile(file)
			b[8]--
			os.WriteFile(file, b, 0o600)
		}, 1, "another version"},
		"so much changed since that all rules are read sooner": {func(s *keptStore, _ string) {
			for range 10_001 {
				s.commit(RuleChange, aKeptRule(t, 1, "https://h.example/a/"), false)
			}
		}, 1, "10001 changes since it was written"},
		"there is none": {func(_ *keptStore, file string) { os.Remove(file) }, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &keptStore{now: map[string]rules.Rule{}}
			for _, r := range someRules(t) {
				s.commit(RuleChange, r, false)
			}
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			var log bytes.Buffer
			start := func() *Replica {
				c := &Replica{Rules: index.New(), Accounts: NewAccounts(), RuleStore: s, AccountStore: nobody{}, History: s,
					SnapshotFile: file, Log: slog.New(slog.NewTextHandler(&log, nil))}
				require.NoError(t, c.Load(t.Context()))
				return c
			}
			require.NoError(t, start().SaveSnapshot(t.Context()))
			c.change(s, file)
			log.Reset()
			s.loads = 0
			second := start()
			want := &Replica{Rules: index.New()}
			require.NoError(t, want.Rules.Load(s.AllRules(t.Context())))
			s.loads-- // that one
			if got, want := opens(t, second), opens(t, want); !reflect.DeepEqual(got, want) {
				t.Errorf("after the start links fall on %v, want %v", got, want)
			}
			assert.True(t, s.loads == c.loads && strings.Contains(log.String(), c.said) && strings.Count(log.String(), "\n") <= 1,
				"the store was read %d times, want %d; said %s", s.loads, c.loads, log.String())
		})
	}
}

// The bytes written for snapshots grow with the changes, not with the rules: one changed rule of a million once wrote 120 MB.
func TestKeepSnapshot_WritesProportionalToChanges(t *testing.T) {
	for _, n := range []int{20, 2_000, 20_000} {
		t.Run(fmt.Sprint(n, " rules"), func(t *testing.T) {
			s := &keptStore{now: map[string]rules.Rule{}}
			s.manyRules(t, n)
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			c := s.node(t, file)
			save := func() (size int64, written bool) {
				before, _ := os.Stat(file)
				require.NoError(t, c.SaveSnapshot(t.Context()))
				after, err := os.Stat(file)
				require.NoError(t, err)
				return after.Size(), before == nil || !os.SameFile(before, after)
			}
			size, written := save()
			require.True(t, written, "the first file is not written")
			s.read = 0
			for idle := range 3 {
				if _, written := save(); written || s.read > idle+1 {
					t.Fatalf("nothing changed: written %v, and %d entries of the log read", written, s.read)
				}
			}
			// What one change costs, whatever else there is.
			const small, share = 64 << 10, 8192
			paid, files, large := int64(small), 0, int64(0)
			changes := min(5*n, 1500)
			for range changes {
				s.change(t, c)
				paid += share
				if size, written = save(); !written {
					large = max(large, size)
					continue
				}
				// The next file may be a little longer than the last, which tells when.
				files++
				assert.True(t, size <= paid+paid/8, "a file of %d bytes for what paid %d", size, paid)
				paid = small
			}
			assert.True(t, files != 0 && (n != 20 || files == changes), "%d files", files)
			assert.True(t, n != 20_000 || (files <= 16 && large > small), "%d files of %d bytes for %d changes", files, size, changes)
			s.loads = 0
			next := s.node(t, file)
			s.sameRules(t, next)
			// The start pays as well: what it finds lacking is not forgotten.
			lacks := int64(len(s.changes)) - upTo(t, file)
			assert.True(t, s.loads == 0 && next.snapshotPosition.seq+lacks == next.ruled.seq,
				"%d loads; the file has all up to %d, %d are lacking, the memory has %d", s.loads, next.snapshotPosition.seq, lacks, next.ruled.seq)
		})
	}
}

// Issue 14: a stop soon after an import left no file, where rules were read beside the living ones.
func TestKeepStop_AfterImport(t *testing.T) {
	for name, n := range map[string]struct{ there, imported int }{"of most rules": {10, 100_001}, "of some rules": {20_000, 1_000}} {
		t.Run(name, func(t *testing.T) {
			s := &keptStore{now: map[string]rules.Rule{}}
			s.manyRules(t, n.there)
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			c := s.node(t, file)
			require.NoError(t, c.SaveSnapshot(t.Context()))
			s.manyRules(t, n.imported)
			c.RefreshMany(t.Context(), int64(n.there+1), n.imported)
			s.read = 0
			require.NoError(t, c.SaveSnapshot(t.Context()))
			// The import was read when it ended: a stop does not read it again.
			if at := upTo(t, file); at != int64(len(s.changes)) || s.read > 1 {
				t.Errorf("the file has all up to %d of %d, for which %d entries of the log were read", at, len(s.changes), s.read)
			}
			s.loads = 0
			if next := s.node(t, file); s.loads != 0 || next.Rules.Len() != len(s.now) {
				t.Errorf("the next start read the store %d times and has %d rules", s.loads, next.Rules.Len())
			}
		})
	}
}

// A snapshot file that was removed, or that belongs to a deleted log, is written again after any change.
func TestKeepSnapshot_MissingFileRewritten(t *testing.T) {
	s := &keptStore{now: map[string]rules.Rule{}}
	s.manyRules(t, 2000)
	file := filepath.Join(t.TempDir(), "rules.snapshot")
	c := s.node(t, file)
	for what, happens := range map[string]func(){
		"it was removed": func() { os.Remove(file) },
		"the store lost its last commits": func() {
			for _, lost := range s.changes[1990:] {
				delete(s.now, lost.Key)
			}
			s.changes = s.changes[:1990]
		},
		"the store went on as another": func() {
			for i := range s.changes {
				s.changes[i].Hash += "'"
			}
			s.commit(RuleChange, aKeptRule(t, 1, "https://h.example/another/"), false)
		},
	} {
		require.NoError(t, c.SaveSnapshot(t.Context()))
		happens()
		require.NoErrorf(t, c.SaveSnapshot(t.Context()), "%v", what)
		s.sameRules(t, c)
		s.loads = 0
		if next := s.node(t, file); s.loads != 0 || next.snapshotPosition.seq != int64(len(s.changes)) {
			t.Errorf("%s: the next start read the store %d times, the file has all up to %d of %d", what, s.loads, next.snapshotPosition.seq,
				len(s.changes))
		}
		s.manyRules(t, 100)
		c.RefreshMany(t.Context(), int64(len(s.changes)-99), 100)
	}
}

// Snapshots keep their distance from each other, and end with the server.
func TestKeepSnapshot_Interval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keptStore{now: map[string]rules.Rule{}}
		s.manyRules(t, 3)
		file := filepath.Join(t.TempDir(), "rules.snapshot")
		c := s.node(t, file)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.KeepSnapshot(ctx)
		}()
		for seconds, want := range []int64{-1, 3, 3, 3} {
			time.Sleep(900 * time.Millisecond)
			if got := int64(-1); seconds > 0 {
				got = upTo(t, file)
				assert.True(t, got == want, "after %d seconds it has all up to %d, want %d", seconds, got, want)
			} else if _, err := os.Stat(file); err == nil {
				t.Error("written at once")
			}
			if seconds == 1 {
				s.change(t, c)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(28 * time.Second)
		synctest.Wait()
		assert.Equal(t, upTo(t, file), 4, "after half a minute it has all up to")
		cancel()
		<-ended
	})
}
