package index

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// aRuleOf is a rule with a prefix; an odd number is published.
func aRuleOf(t testing.TB, id int64, prefix string, tests ...string) rules.Rule {
	t.Helper()
	kind := rules.Ordinary
	if strings.HasPrefix(prefix, "http://weixin.qq.com/q/") {
		kind = rules.KindService
	}
	p, err := rules.ParsePrefix(prefix, kind, true)
	require.NoError(t, err)
	r := rules.Rule{ID: id, Kind: kind, Owner: fmt.Sprintf("owner%d", id%3), Prefix: p, Path: fmt.Sprintf("pages/p%d", id%5),
		OpenVersion: int(id % 4),
		Occupy:      id%4 == 0, Published: id%2 == 1, TestLinks: tests}
	if r.Target = r.Owner; kind == rules.KindService {
		r.Target = "target"
	}
	return r
}

// someRules are rules of every form that the index knows.
func someRules(t testing.TB) []rules.Rule {
	return []rules.Rule{
		aRuleOf(t, 1, "https://h.example/a/"),
		aRuleOf(t, 2, "https://h.example/a/b", "https://h.example/a/b", "https://h.example/a/b?t=1"),
		aRuleOf(t, 3, "https://h.example"),
		aRuleOf(t, 5, "HTTPS://G.Example?x=1"),
		aRuleOf(t, 7, "https://h.example/a/b?id=", "https://h.example/a/b?id=1"),
		aRuleOf(t, 300, "http://a-host-whose-name-is-longer-than-a-line.example/x"),
		aRuleOf(t, 1<<40+1, "http://weixin.qq.com/q/02AAAAAAAAAAAAAA"),
		aRuleOf(t, 9, "https://h.example/?"),
	}
}

var someLinks = []string{
	"https://h.example/a/x", "https://h.example/a/b", "https://h.example/a/b?id=1", "https://h.example", "https://h.example/?q",
	"https://g.example?x=12",
	"http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "http://a-host-whose-name-is-longer-than-a-line.example/x",
	"https://a-host-whose-name-is-longer-than-a-line.example/x",
	"http://h.example/a/b", "https://other.example/", "https://h.example/a", "http://weixin.qq.com/q/02AAAAAAAAAAAAAB",
}

// sameIndex fails unless two indexes answer alike.
func sameIndex(t testing.TB, got, want *Index, links []string) {
	t.Helper()
	require.Equal(t, got.Len(), want.Len(), "rules")
	for _, text := range links {
		link, _ := rules.ParseLink(text)
		a, aok := got.Governing(link.Text)
		b, bok := want.Governing(link.Text)
		require.True(t, a == b && aok == bok, "%q: %+v %v, want %+v %v", text, a, aok, b, bok)
		if a, b := fmt.Sprintf("%+v", got.Matching(link)), fmt.Sprintf("%+v", want.Matching(link)); a != b {
			t.Fatalf("%q matches %s\nwant %s", text, a, b)
		}
		if a, b := fmt.Sprintf("%+v", got.Testing(text)), fmt.Sprintf("%+v", want.Testing(text)); a != b {
			t.Fatalf("%q tests %s\nwant %s", text, a, b)
		}
	}
}

func each(list []rules.Rule) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

var someAccounts = []SnapshotAccount{{AppID: "owner0", Kind: accounts.ServiceAccount, JumpOpen: true, Linked: []string{"target"}},
	{AppID: "owner1", Kind: accounts.MiniProgram, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}}

// snapshotOf is the file of an index.
func snapshotOf(t testing.TB, x *Index) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.snapshot")
	require.NoError(t, x.WriteSnapshot(path, Checkpoint{7, "history"}, someAccounts))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func read(file []byte) (*Snapshot, error) {
	return readSnapshot(bytes.NewReader(file), int64(len(file)))
}

func TestSnapshot_EqualsIndex(t *testing.T) {
	built := New()
	require.NoError(t, built.Load(each(someRules(t))))
	written := New()
	for _, r := range someRules(t) {
		written.Set(aRuleOf(t, r.ID+1, r.Prefix.Text)) // what will be overwritten
	}
	for _, r := range someRules(t) {
		written.Set(r)
	}
	gone := aRuleOf(t, 11, "https://h.example/gone", "https://h.example/gone")
	written.Set(gone)
	written.Remove(gone.Prefix.Key)
	for name, x := range map[string]*Index{"loaded": built, "written one by one": written} {
		s, err := read(snapshotOf(t, x))
		require.NoErrorf(t, err, "%s", name)
		sameIndex(t, s.Rules, built, append(someLinks, "https://h.example/gone"))
		assert.True(t, s.Checkpoint == (Checkpoint{7, "history"}) && fmt.Sprint(s.Accounts) == fmt.Sprint(someAccounts),
			"%s: %+v %+v", name, s.Checkpoint, s.Accounts)
		// It goes on as the index would.
		s.Rules.Set(gone)
		built.Set(gone)
		sameIndex(t, s.Rules, built, append(someLinks, "https://h.example/gone"))
		s.Rules.Remove(gone.Prefix.Key)
		built.Remove(gone.Prefix.Key)
		sameIndex(t, s.Rules, built, append(someLinks, "https://h.example/gone"))
	}
	empty, err := read(snapshotOf(t, New()))
	require.True(t, err == nil && empty.Rules.Len() == 0, "an empty index: %v", err)
	sameIndex(t, empty.Rules, New(), someLinks)
	empty.Rules.Set(gone)
}

// slowly is a file that lets something happen between two of its writes.
type slowly struct {
	*os.File
	between func()
}

func (f slowly) Write(b []byte) (int, error) {
	f.between()
	return f.File.Write(b)
}

func TestSnapshot_PointInTime(t *testing.T) {
	x := New()
	list := someRules(t)
	require.NoError(t, x.Load(each(list[:4])))
	f, err := os.Create(filepath.Join(t.TempDir(), "rules.snapshot"))
	require.NoError(t, err)
	defer f.Close()
	want := New()
	require.NoError(t, want.Load(each(list[2:])))
	// Changes between the copies of two segments: what they tell is in the file.
	x.midway = func(step string) {
		if step == "segment copied" {
			x.midway = nil
			x.Remove(list[0].Prefix.Key)
			x.Remove(list[1].Prefix.Key)
			for _, r := range list[4:] {
				x.Set(r)
			}
		}
	}
	// Changes while the file is written: they are not.
	late := aRuleOf(t, 99, "https://h.example/late")
	err = x.writeSnapshot(slowly{f, func() { x.Set(late); x.Remove(list[3].Prefix.Key) }}, Checkpoint{1, "h"}, nil)
	require.NoError(t, err)
	file, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	s, err := read(file)
	require.NoError(t, err)
	sameIndex(t, s.Rules, want, append(someLinks, "https://h.example/late"))
	x.midway = func(step string) {
		if step == "segment copied" {
			x.midway = nil
			_ = x.Load(each(nil))
		}
	}
	err = x.writeSnapshot(f, Checkpoint{1, "h"}, nil)
	require.True(t, err != nil, "rules that were loaded anew while they were copied made a snapshot")
}

func TestSnapshot_Corrupted(t *testing.T) {
	x := New()
	require.NoError(t, x.Load(each(someRules(t))))
	file := snapshotOf(t, x)
	t.Logf("%d bytes", len(file))
	refused := func(what string, file []byte) {
		_, err := read(file)
		assert.True(t, (errors.Is(err, ErrSnapshotDamaged) || errors.Is(err, ErrSnapshotFormat)) && !strings.Contains(err.Error(), "\n"),
			"%s: %v", what, err)
	}
	for i := range file {
		if raceDetector && i%11 != 0 {
			continue // nothing here runs at the same time
		}
		refused(fmt.Sprintf("cut after %d bytes", i), file[:i])
		for _, bit := range []byte{1, 0x80, 0xff} {
			file[i] ^= bit
			refused(fmt.Sprintf("byte %d altered by %02x", i, bit), file)
			file[i] ^= bit
		}
	}
	refused("a byte too many", append(slices.Clone(file), 0))
	require.NoErrorf(t, assert.ErrorOf(read(file)), "as it was")
	// The file of the next format is not called damaged.
	file[8]++
	assert.ErrorIs(t, assert.ErrorOf(read(file)), ErrSnapshotFormat, "another format")
}

func TestSnapshot_AtomicReplace(t *testing.T) {
	x := New()
	x.Set(aRuleOf(t, 1, "https://h.example/a/"))
	path := filepath.Join(t.TempDir(), "rules.snapshot")
	require.NoError(t, x.WriteSnapshot(path, Checkpoint{1, "one"}, nil))
	x.midway = func(string) { x.midway = nil; _ = x.Load(each(nil)) }
	err := x.WriteSnapshot(path, Checkpoint{2, "two"}, nil)
	assert.True(t, err != nil && strings.Contains(err.Error(), path), "a snapshot that cannot be taken: %v", err)
	s, err := ReadSnapshot(path)
	assert.True(t, err == nil && s.Checkpoint == (Checkpoint{1, "one"}), "the old one: %+v, %v", s, err)
	names, _ := filepath.Glob(filepath.Dir(path) + "/*")
	assert.True(t, len(names) == 1, "what is left: %v", names)
	assert.True(t, x.WriteSnapshot(filepath.Join(path, "no", "folder"), Checkpoint{}, nil) != nil, "written into a folder that is none")
	assert.ErrorIs(t, assert.ErrorOf(ReadSnapshot(path+".none")), os.ErrNotExist, "no file")
}

// FuzzSnapshot: whatever a file holds, it is refused or answers.
func FuzzSnapshot(f *testing.F) {
	x := New()
	f.Add(snapshotOf(f, x))
	require.NoError(f, x.Load(each(someRules(f))))
	file := snapshotOf(f, x)
	f.Add(file)
	f.Add(file[:len(file)-1])
	f.Add([]byte(snapshotMagic))
	f.Add(bytes.Repeat([]byte{0xff}, snapshotBlock))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := readSnapshot(io.LimitReader(bytes.NewReader(file), int64(len(file))), int64(len(file)))
		if err != nil {
			return
		}
		for _, text := range someLinks {
			link, _ := rules.ParseLink(text)
			s.Rules.Governing(link.Text)
			s.Rules.Matching(link)
		}
	})
}
