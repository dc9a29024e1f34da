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

// newRule returns a rule with a prefix. Rules with odd numbers are published.
func newRule(t testing.TB, id int64, prefix string, tests ...string) rules.Rule {
	t.Helper()
	kind := rules.Ordinary
	if strings.HasPrefix(prefix, "http://weixin.qq.com/q/") {
		kind = rules.KindService
	}
	p := require.Value(rules.ParsePrefix(prefix, kind, true))(t)
	r := rules.Rule{ID: id, Kind: kind, Owner: fmt.Sprintf("owner%d", id%3), Prefix: p, Path: fmt.Sprintf("pages/p%d", id%5),
		OpenVersion: int(id % 4), Occupy: id%4 == 0, Published: id%2 == 1, TestLinks: tests}
	if r.Target = r.Owner; kind == rules.KindService {
		r.Target = "target"
	}
	return r
}

// sampleRules returns rules of every form that the index supports.
func sampleRules(t testing.TB) []rules.Rule {
	return []rules.Rule{
		newRule(t, 1, "https://h.example/a/"),
		newRule(t, 2, "https://h.example/a/b", "https://h.example/a/b", "https://h.example/a/b?t=1"),
		newRule(t, 3, "https://h.example"),
		newRule(t, 5, "HTTPS://G.Example?x=1"),
		newRule(t, 7, "https://h.example/a/b?id=", "https://h.example/a/b?id=1"),
		newRule(t, 300, "http://a-host-whose-name-is-longer-than-a-line.example/x"),
		newRule(t, 1<<40+1, "http://weixin.qq.com/q/02AAAAAAAAAAAAAA"),
		newRule(t, 9, "https://h.example/?"),
	}
}

var sampleLinks = []string{
	"https://h.example/a/x", "https://h.example/a/b", "https://h.example/a/b?id=1", "https://h.example", "https://h.example/?q",
	"https://g.example?x=12", "http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "http://a-host-whose-name-is-longer-than-a-line.example/x",
	"https://a-host-whose-name-is-longer-than-a-line.example/x",
	"http://h.example/a/b", "https://other.example/", "https://h.example/a", "http://weixin.qq.com/q/02AAAAAAAAAAAAAB",
}

// assertEqualIndex fails the test unless got and want return the same results for links.
func assertEqualIndex(t testing.TB, got, want *Index, links []string) {
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

func ruleSeq(list []rules.Rule) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

var sampleAccounts = []SnapshotAccount{{AppID: "owner0", Kind: accounts.ServiceAccount, JumpOpen: true, Linked: []string{"target"}},
	{AppID: "owner1", Kind: accounts.MiniProgram, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}}

// marshalSnapshot returns the snapshot file of x.
func marshalSnapshot(t testing.TB, x *Index) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.snapshot")
	require.NoError(t, x.WriteSnapshot(path, Checkpoint{7, "history"}, sampleAccounts))
	return require.Value(os.ReadFile(path))(t)
}

func unmarshalSnapshot(file []byte) (*Snapshot, error) {
	return readSnapshot(bytes.NewReader(file), int64(len(file)))
}

func TestSnapshot_EqualsIndex(t *testing.T) {
	built := New()
	require.NoError(t, built.Load(ruleSeq(sampleRules(t))))
	written := New()
	for _, r := range sampleRules(t) {
		written.Set(newRule(t, r.ID+1, r.Prefix.Text)) // is replaced below
	}
	for _, r := range sampleRules(t) {
		written.Set(r)
	}
	removed := newRule(t, 11, "https://h.example/gone", "https://h.example/gone")
	written.Set(removed)
	written.Remove(removed.Prefix.Key)
	for name, x := range map[string]*Index{"loaded": built, "written one by one": written} {
		s, err := unmarshalSnapshot(marshalSnapshot(t, x))
		require.NoErrorf(t, err, "%s", name)
		assertEqualIndex(t, s.Rules, built, append(sampleLinks, "https://h.example/gone"))
		assert.True(t, s.Checkpoint == (Checkpoint{7, "history"}) && fmt.Sprint(s.Accounts) == fmt.Sprint(sampleAccounts),
			"%s: checkpoint %+v, accounts %+v", name, s.Checkpoint, s.Accounts)
		// Later changes have the same effect as on the index.
		s.Rules.Set(removed)
		built.Set(removed)
		assertEqualIndex(t, s.Rules, built, append(sampleLinks, "https://h.example/gone"))
		s.Rules.Remove(removed.Prefix.Key)
		built.Remove(removed.Prefix.Key)
		assertEqualIndex(t, s.Rules, built, append(sampleLinks, "https://h.example/gone"))
	}
	empty, err := unmarshalSnapshot(marshalSnapshot(t, New()))
	require.True(t, err == nil && empty.Rules.Len() == 0, "an empty index: %v", err)
	assertEqualIndex(t, empty.Rules, New(), sampleLinks)
	empty.Rules.Set(removed)
}

// hookedFile calls between before each write.
type hookedFile struct {
	*os.File
	between func()
}

func (f hookedFile) Write(b []byte) (int, error) {
	f.between()
	return f.File.Write(b)
}

func TestSnapshot_PointInTime(t *testing.T) {
	x := New()
	list := sampleRules(t)
	require.NoError(t, x.Load(ruleSeq(list[:4])))
	f, err := os.Create(filepath.Join(t.TempDir(), "rules.snapshot"))
	require.NoError(t, err)
	defer f.Close()
	want := New()
	require.NoError(t, want.Load(ruleSeq(list[2:])))
	// Changes between the copies of two segments are in the file.
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
	// Changes while the file is written are not in the file.
	late := newRule(t, 99, "https://h.example/late")
	err = x.writeSnapshot(hookedFile{f, func() { x.Set(late); x.Remove(list[3].Prefix.Key) }}, Checkpoint{1, "h"}, nil)
	require.NoError(t, err)
	file := require.Value(os.ReadFile(f.Name()))(t)
	s := require.Value(unmarshalSnapshot(file))(t)
	assertEqualIndex(t, s.Rules, want, append(sampleLinks, "https://h.example/late"))
	x.midway = func(step string) {
		if step == "segment copied" {
			x.midway = nil
			_ = x.Load(ruleSeq(nil))
		}
	}
	err = x.writeSnapshot(f, Checkpoint{1, "h"}, nil)
	require.True(t, err != nil, "writeSnapshot during a Load succeeded, want an error")
}

func TestSnapshot_Corrupted(t *testing.T) {
	x := New()
	require.NoError(t, x.Load(ruleSeq(sampleRules(t))))
	file := marshalSnapshot(t, x)
	t.Logf("%d bytes", len(file))
	assertRejected := func(name string, file []byte) {
		_, err := unmarshalSnapshot(file)
		assert.True(t, (errors.Is(err, ErrSnapshotDamaged) || errors.Is(err, ErrSnapshotFormat)) && !strings.Contains(err.Error(), "\n"),
			"%s: %v, want ErrSnapshotDamaged or ErrSnapshotFormat in one line", name, err)
	}
	for i := range file {
		if raceDetector && i%11 != 0 {
			continue // the test has no concurrency
		}
		assertRejected(fmt.Sprintf("cut after %d bytes", i), file[:i])
		for _, bit := range []byte{1, 0x80, 0xff} {
			file[i] ^= bit
			assertRejected(fmt.Sprintf("byte %d altered by %02x", i, bit), file)
			file[i] ^= bit
		}
	}
	assertRejected("an extra byte", append(slices.Clone(file), 0))
	require.NoErrorf(t, assert.ErrorOf(unmarshalSnapshot(file)), "the unchanged file")
	// The error of a later format is not ErrSnapshotDamaged.
	file[8]++
	assert.ErrorIs(t, assert.ErrorOf(unmarshalSnapshot(file)), ErrSnapshotFormat, "file of another format")
}

func TestSnapshot_AtomicReplace(t *testing.T) {
	x := New()
	x.Set(newRule(t, 1, "https://h.example/a/"))
	path := filepath.Join(t.TempDir(), "rules.snapshot")
	require.NoError(t, x.WriteSnapshot(path, Checkpoint{1, "one"}, nil))
	x.midway = func(string) { x.midway = nil; _ = x.Load(ruleSeq(nil)) }
	err := x.WriteSnapshot(path, Checkpoint{2, "two"}, nil)
	assert.True(t, err != nil && strings.Contains(err.Error(), path), "WriteSnapshot during a Load: %v, want an error with the path", err)
	s, err := ReadSnapshot(path)
	assert.True(t, err == nil && s.Checkpoint == (Checkpoint{1, "one"}), "snapshot after a failed WriteSnapshot = %+v, %v, want the first",
		s, err)
	names, _ := filepath.Glob(filepath.Dir(path) + "/*")
	assert.True(t, len(names) == 1, "files = %v, want the snapshot only", names)
	assert.True(t, x.WriteSnapshot(filepath.Join(path, "no", "folder"), Checkpoint{}, nil) != nil,
		"WriteSnapshot into a missing directory succeeded, want an error")
	assert.ErrorIs(t, assert.ErrorOf(ReadSnapshot(path+".none")), os.ErrNotExist, "ReadSnapshot of a missing file")
}

// FuzzSnapshot verifies that arbitrary files are rejected, or that their index can be used without a panic.
func FuzzSnapshot(f *testing.F) {
	x := New()
	f.Add(marshalSnapshot(f, x))
	require.NoError(f, x.Load(ruleSeq(sampleRules(f))))
	file := marshalSnapshot(f, x)
	f.Add(file)
	f.Add(file[:len(file)-1])
	f.Add([]byte(snapshotMagic))
	f.Add(bytes.Repeat([]byte{0xff}, snapshotBlock))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := readSnapshot(io.LimitReader(bytes.NewReader(file), int64(len(file))), int64(len(file)))
		if err != nil {
			return
		}
		for _, text := range sampleLinks {
			link, _ := rules.ParseLink(text)
			s.Rules.Governing(link.Text)
			s.Rules.Matching(link)
		}
	})
}
