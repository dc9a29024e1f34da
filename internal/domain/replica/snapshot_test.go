package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

func newRule(t testing.TB, id int64, prefix string, tests ...string) rules.Rule {
	t.Helper()
	p := require.Value(rules.ParsePrefix(prefix, rules.Ordinary, true))(t)
	return rules.Rule{ID: id, Kind: rules.Ordinary, Owner: "owner", Target: "owner", Prefix: p, Path: "pages/p", OpenVersion: 1,
		Published: true, TestLinks: tests}
}

func someRules(t testing.TB) []rules.Rule {
	return []rules.Rule{
		newRule(t, 1, "https://h.example/a/"),
		newRule(t, 2, "https://h.example/a/b", "https://h.example/a/b", "https://h.example/a/b?t=1"),
		newRule(t, 3, "https://h.example"),
	}
}

// matchLinks returns the rules that match some links.
func matchLinks(t testing.TB, c *Replica) (found []rules.Rule) {
	t.Helper()
	for _, text := range []string{"https://h.example/a/x", "https://h.example/a/b", "https://h.example/a/b?t=1", "https://h.example",
		"https://h.example/new"} {
		link, ok := rules.ParseLink(text)
		require.True(t, ok, "%v", text)
		found = append(append(found, c.Rules.Matching(link)...), c.Rules.Testing(text)...)
	}
	return found
}

// memoryStore is an in-memory store of rules with the log of their changes.
type memoryStore struct {
	rules.Store
	now     map[string]rules.Rule
	changes []Change
	loads   int // number of reads of all rules
	read    int // number of entries read from the log
}

func newMemoryStore(list ...rules.Rule) *memoryStore {
	s := &memoryStore{now: map[string]rules.Rule{}}
	for _, r := range list {
		s.commit(RuleChange, r, false)
	}
	return s
}

// startNode loads a replica of the store with a snapshot file.
func (s *memoryStore) startNode(t testing.TB, file string, log io.Writer) *Replica {
	t.Helper()
	c := &Replica{Rules: index.New(), Accounts: NewAccounts(), RuleStore: s, AccountStore: emptyAccounts{}, History: s, SnapshotFile: file,
		Log: slog.New(slog.NewTextHandler(log, nil))}
	require.NoError(t, c.Load(t.Context()))
	return c
}

// addRules adds n rules with distinct IDs and prefixes.
func (s *memoryStore) addRules(t testing.TB, n int) {
	t.Helper()
	for range n {
		id := int64(len(s.changes) + 1)
		s.commit(RuleChange, newRule(t, id, fmt.Sprintf("https://h.example/many/%d/", id)), false)
	}
}

// changeRule changes a rule and refreshes it in a node.
func (s *memoryStore) changeRule(t testing.TB, c *Replica) {
	t.Helper()
	for key, r := range s.now {
		r.Path = "pages/" + strconv.Itoa(len(s.changes)%2)
		s.commit(RuleChange, r, false)
		c.RefreshRule(t.Context(), key)
		return
	}
}

func (s *memoryStore) ViewRules(_ context.Context, read func(rules.Tx) error) error {
	return read(memoryTx{store: s})
}

type memoryTx struct {
	rules.Tx
	store *memoryStore
}

func (tx memoryTx) RulesAt(ctx context.Context, keys []string) (list []rules.Rule, err error) {
	for _, key := range keys {
		if r, err := tx.Rule(ctx, key); err == nil {
			list = append(list, r)
		}
	}
	return list, nil
}

func (tx memoryTx) Rule(_ context.Context, key string) (rules.Rule, error) {
	r, ok := tx.store.now[key]
	if !ok {
		return r, rules.ErrNoRule
	}
	return r, nil
}

// checkRules checks that a node has exactly the rules of its store.
func (s *memoryStore) checkRules(t testing.TB, c *Replica) {
	t.Helper()
	assert.Equal(t, c.Rules.Len(), len(s.now), "number of rules")
	for key, r := range s.now {
		link, _ := rules.ParseLink(r.Prefix.Text)
		got := c.Rules.Matching(link)
		require.True(t, len(got) != 0 && got[0].Prefix.Key == key && got[0].Path == r.Path, "Matching(%s) = %+v, want %+v", key, got, r)
	}
}

// snapshotSeq returns the sequence number of the last change that a snapshot file includes.
func snapshotSeq(t testing.TB, file string) int64 {
	t.Helper()
	s := require.Value(index.ReadSnapshot(file))(t)
	return s.Seq
}

func (s *memoryStore) commit(kind string, r rules.Rule, deleted bool) {
	if delete(s.now, r.Prefix.Key); !deleted && kind == RuleChange {
		s.now[r.Prefix.Key] = r
	}
	seq := int64(len(s.changes) + 1)
	s.changes = append(s.changes, Change{Seq: seq, Hash: "h" + strconv.Itoa(int(seq)), Kind: kind, Key: r.Prefix.Key})
}

func (s *memoryStore) ChangeHead(context.Context) (int64, string, error) {
	n := len(s.changes)
	if n == 0 {
		return 0, "", nil
	}
	return int64(n), s.changes[n-1].Hash, nil
}

func (s *memoryStore) ChangesFrom(_ context.Context, from int64, limit int) (list []Change, err error) {
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

func (s *memoryStore) Updates() int64 { return int64(len(s.changes)) }

func (s *memoryStore) Listen(context.Context) (Notifier, error) {
	return nil, errors.New("no notifications")
}

// emptyAccounts is a store without accounts.
type emptyAccounts struct{ accounts.Store }

func (emptyAccounts) ViewAccounts(_ context.Context, read func(accounts.Tx) error) error {
	return read(accountsTx{state: state{}})
}

func (s *memoryStore) AllRules(context.Context) iter.Seq2[rules.Rule, error] {
	s.loads++
	return func(yield func(rules.Rule, error) bool) {
		for _, r := range s.now {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// TestKeepStart_RemovesPartialSnapshots verifies that a start removes partial snapshots of crashed processes, which would fill the disk.
func TestKeepStart_RemovesPartialSnapshots(t *testing.T) {
	s := newMemoryStore(someRules(t)[0])
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.snapshot")
	for _, name := range []string{file + ".new-123", file + ".new-4", file + ".mine"} {
		require.NoError(t, os.WriteFile(name, []byte("half"), 0o600))
	}
	require.NoError(t, s.startNode(t, file, io.Discard).SaveSnapshot(t.Context()))
	names, _ := filepath.Glob(dir + "/*")
	assert.Equal(t, strings.Join(names, " "), file+" "+file+".mine", "files")
}

func TestKeepStart_SnapshotPlusChanges(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *memoryStore, file string)
		loads  int    // reads of all rules from the store at the second start
		log    string // text in the log
	}{
		"no change": {func(*memoryStore, string) {}, 0, "rules loaded from the snapshot"},
		"changes since the snapshot": {func(s *memoryStore, _ string) {
			s.commit(RuleChange, newRule(t, 11, "https://h.example/new"), false)
			s.commit(RuleChange, newRule(t, 1, "https://h.example/a/"), true)
		}, 0, "rules loaded from the snapshot"},
		"reset since the snapshot": {func(s *memoryStore, _ string) { s.commit(ResetChange, rules.Rule{}, false) }, 1, ""},
		"snapshot of another audit log": {func(s *memoryStore, _ string) { s.changes[len(s.changes)-1].Hash = "other" }, 1,
			"is stale"},
		"last commits of the store lost": {func(s *memoryStore, _ string) { s.changes = s.changes[:1] }, 1, "is stale"},
		"corrupted snapshot": {func(_ *memoryStore, file string) {
			b, _ := os.ReadFile(file)
			b[len(b)-3] ^= 1
			os.WriteFile(file, b, 0o600)
		}, 1, "rejected"},
		"another format version": {func(_ *memoryStore, file string) {
			b, _ := os.ReadFile(file)
			b[8]--
			os.WriteFile(file, b, 0o600)
		}, 1, "another version"},
		"too many changes since the snapshot": {func(s *memoryStore, _ string) {
			for range 10_001 {
				s.commit(RuleChange, newRule(t, 1, "https://h.example/a/"), false)
			}
		}, 1, "10001 changes since it was written"},
		"no snapshot": {func(_ *memoryStore, file string) { os.Remove(file) }, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMemoryStore(someRules(t)...)
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			require.NoError(t, s.startNode(t, file, io.Discard).SaveSnapshot(t.Context()))
			test.change(s, file)
			var log bytes.Buffer
			s.loads = 0
			second := s.startNode(t, file, &log)
			assert.True(t, s.loads == test.loads && strings.Contains(log.String(), test.log) && strings.Count(log.String(), "\n") <= 1,
				"the store was read %d times, want %d; log, want %q: %s", s.loads, test.loads, test.log, log.String())
			want := &Replica{Rules: index.New()}
			require.NoError(t, want.Rules.Load(s.AllRules(t.Context())))
			got, wantRules := matchLinks(t, second), matchLinks(t, want)
			assert.True(t, reflect.DeepEqual(got, wantRules), "rules after the second start = %v, want %v", got, wantRules)
		})
	}
}

// TestKeepSnapshot_WritesProportionalToChanges verifies that the bytes written for snapshots grow with the number of changes and are
// independent of the number of rules.
func TestKeepSnapshot_WritesProportionalToChanges(t *testing.T) {
	for _, n := range []int{20, 2_000, 20_000} {
		t.Run(fmt.Sprint(n, " rules"), func(t *testing.T) {
			s := newMemoryStore()
			s.addRules(t, n)
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			c := s.startNode(t, file, io.Discard)
			save := func() (size int64, written bool) {
				before, _ := os.Stat(file)
				require.NoError(t, c.SaveSnapshot(t.Context()))
				after := require.Value(os.Stat(file))(t)
				return after.Size(), before == nil || !os.SameFile(before, after)
			}
			size, written := save()
			require.True(t, written, "the first SaveSnapshot() writes no file, want one")
			s.read = 0
			for idle := range 3 {
				_, written := save()
				require.True(t, !written && s.read <= idle+1, "SaveSnapshot() without a change: written %v, read %d", written, s.read)
			}
			// Each change allows for a number of bytes, in addition to a small file.
			const small, bytesPerChange = 64 << 10, 8192
			budget, files, large := int64(small), 0, int64(0)
			changes := min(5*n, 1500)
			for range changes {
				s.changeRule(t, c)
				budget += bytesPerChange
				if size, written = save(); !written {
					large = max(large, size)
					continue
				}
				// The size of the previous file decides when to write, and the next file may be a little longer.
				files++
				assert.True(t, size <= budget+budget/8, "the file has %d bytes, want at most %d", size, budget)
				budget = small
			}
			assert.True(t, files != 0 && (n != 20 || files == changes), "%d files for %d changes", files, changes)
			assert.True(t, n != 20_000 || (files <= 16 && large > small), "%d files of %d bytes for %d changes", files, size, changes)
			s.loads = 0
			next := s.startNode(t, file, io.Discard)
			s.checkRules(t, next)
			// The changes that a start reads from the log count too.
			missing := int64(len(s.changes)) - snapshotSeq(t, file)
			assert.True(t, s.loads == 0 && next.snapshotPosition.seq+missing == next.ruled.seq,
				"%d loads; the file includes change %d, %d are missing, the replica has %d", s.loads, next.snapshotPosition.seq, missing,
				next.ruled.seq)
		})
	}
}

// TestKeepStop_AfterImport verifies that a stop soon after an import saves a snapshot with the imported rules without reading them again.
func TestKeepStop_AfterImport(t *testing.T) {
	for name, n := range map[string]struct{ before, imported int }{"of most rules": {10, 100_001}, "of some rules": {20_000, 1_000}} {
		t.Run(name, func(t *testing.T) {
			s := newMemoryStore()
			s.addRules(t, n.before)
			file := filepath.Join(t.TempDir(), "rules.snapshot")
			c := s.startNode(t, file, io.Discard)
			require.NoError(t, c.SaveSnapshot(t.Context()))
			s.addRules(t, n.imported)
			c.RefreshMany(t.Context(), int64(n.before+1), n.imported)
			s.read = 0
			require.NoError(t, c.SaveSnapshot(t.Context()))
			seq := snapshotSeq(t, file)
			assert.True(t, seq == int64(len(s.changes)) && s.read <= 1,
				"the file includes change %d after reading %d log entries, want %d and 1", seq, s.read, len(s.changes))
			s.loads = 0
			next := s.startNode(t, file, io.Discard)
			assert.True(t, s.loads == 0 && next.Rules.Len() == len(s.now),
				"the next start reads the store %d times and has %d rules, want 0 and %d", s.loads, next.Rules.Len(), len(s.now))
		})
	}
}

// TestKeepSnapshot_MissingFileRewritten verifies that SaveSnapshot replaces a snapshot file that was removed or belongs to another log.
func TestKeepSnapshot_MissingFileRewritten(t *testing.T) {
	s := newMemoryStore()
	s.addRules(t, 2000)
	file := filepath.Join(t.TempDir(), "rules.snapshot")
	c := s.startNode(t, file, io.Discard)
	for name, change := range map[string]func(){
		"file removed": func() { os.Remove(file) },
		"last commits of the store lost": func() {
			for _, lost := range s.changes[1990:] {
				delete(s.now, lost.Key)
			}
			s.changes = s.changes[:1990]
		},
		"store continued with another log": func() {
			for i := range s.changes {
				s.changes[i].Hash += "'"
			}
			s.commit(RuleChange, newRule(t, 1, "https://h.example/another/"), false)
		},
	} {
		require.NoError(t, c.SaveSnapshot(t.Context()))
		change()
		require.NoErrorf(t, c.SaveSnapshot(t.Context()), "%v", name)
		s.checkRules(t, c)
		s.loads = 0
		next := s.startNode(t, file, io.Discard)
		assert.True(t, s.loads == 0 && next.snapshotPosition.seq == int64(len(s.changes)),
			"%s: the next start reads the store %d times, the file includes change %d, want 0 and %d", name, s.loads,
			next.snapshotPosition.seq, len(s.changes))
		s.addRules(t, 100)
		c.RefreshMany(t.Context(), int64(len(s.changes)-99), 100)
	}
}

// TestKeepSnapshot_Interval verifies that KeepSnapshot waits between snapshots, and returns when its context is canceled.
func TestKeepSnapshot_Interval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryStore()
		s.addRules(t, 3)
		file := filepath.Join(t.TempDir(), "rules.snapshot")
		c := s.startNode(t, file, io.Discard)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.KeepSnapshot(ctx)
		}()
		for seconds, want := range []int64{-1, 3, 3, 3} {
			time.Sleep(900 * time.Millisecond)
			if got := int64(-1); seconds > 0 {
				got = snapshotSeq(t, file)
				assert.Equal(t, got, want, "last change of the file after %d seconds", seconds)
			} else if _, err := os.Stat(file); err == nil {
				t.Error("a file is written within a second, want none")
			}
			if seconds == 1 {
				s.changeRule(t, c)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(28 * time.Second)
		synctest.Wait()
		assert.Equal(t, snapshotSeq(t, file), 4, "last change of the file after half a minute")
		cancel()
		<-ended
	})
}
