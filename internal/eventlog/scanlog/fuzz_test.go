package scanlog

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Encoding writes every decoded record again as an equal one; nothing makes it panic.
func FuzzRecord(f *testing.F) {
	for n := range int64(20) {
		e := anEvent(n)
		f.Add(AppendRecord(nil, &e))
	}
	f.Add([]byte{recordVersion})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in Texts
		e, err := DecodeRecord(b, &in)
		if err != nil {
			require.Equal(t, e, Event{}, "half an event comes with an error")
			return
		}
		again, err := DecodeRecord(AppendRecord(nil, &e), &in)
		require.True(t, err == nil && again == e, "%+v was written, %+v read (%v)", e, again, err)
		require.True(t, e == e.Sanitized(), "%+v is not what is kept: %+v", e, e.Sanitized())
		id, ok := RecordID(b)
		require.True(t, ok && id == e.ID, "the id is read as another")
		u, _ := recordUser(b)
		require.True(t, u == e.User, "the user is read as another")
		if eraseRecord(b) == nil {
			e, err := DecodeRecord(b, &in)
			require.True(t, err == nil && e == *Anonymous(&again), "erased: %+v, %v", e, err)
		}
	})
}

// The record holds the event as it is kept, for any texts of an app.
func FuzzTexts(f *testing.F) {
	f.Add("app/1", "https://h.example/", "scan", uint64(1))
	f.Add("\xff\x00", strings.Repeat("界", 300), "\x00", uint64(1<<63))
	f.Fuzz(func(t *testing.T, client, text, source string, n uint64) {
		e := anEvent(int64(n % 1000))
		e.Client, e.Text, e.Source, e.Region, e.App = client, text, source, client, text
		e.RuleID, e.Index = int64(n), -int64(n)
		e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}), int(n%33))
		b := AppendRecord(nil, &e)
		require.True(t, len(b) <= maxRecord, "a record of %d bytes", len(b))
		var in Texts
		got, err := DecodeRecord(b, &in)
		require.True(t, err == nil && got == e.Sanitized(), "got %+v, %v; want %+v", got, err, e.Sanitized())
		require.True(t, utf8.ValidString(got.Text) && !strings.ContainsRune(got.Text, 0) &&
			(strings.HasPrefix(strings.ToValidUTF8(text, "�"), strings.ReplaceAll(got.Text, " ", " ")) || strings.Contains(text, "\x00") ||
				!utf8.ValidString(text)), "%q is kept as %q", text, got.Text)
	})
}

// FuzzSegment alters a file at any place: what is read of it was written, in order, and nothing panics or allocates what a lie asks for.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	j, err := OpenJournal(dir, JournalOptions{Random: seeded(1)})
	require.NoError(f, err)
	for i := range int64(20) {
		require.NoError(f, j.Append(f.Context(), events(5*i, 5*i+5)))
	}
	name := segmentName(1)
	open, _ := os.ReadFile(filepath.Join(dir, name))
	j.Close()
	sealed, _ := os.ReadFile(filepath.Join(dir, name))
	ledger, _ := os.ReadFile(filepath.Join(dir, ledgerFile))
	f.Add(true, uint32(0), uint32(0), []byte{1})
	f.Add(true, uint32(72), uint32(4), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(false, uint32(len(sealed)-60), uint32(0), []byte{0xff, 0xff, 0xff})
	f.Add(false, uint32(500), uint32(3000), []byte{})
	f.Fuzz(func(t *testing.T, unsealed bool, at, cut uint32, change []byte) {
		b := bytes.Clone(sealed)
		if unsealed {
			b = bytes.Clone(open)
		}
		at %= uint32(len(b))
		if n := copy(b[at:], change); cut > 0 { // and a piece is missing
			from := min(int(at)+n, len(b))
			b = append(b[:from:from], b[min(from+int(cut%8192), len(b)):]...)
		}
		d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
		for name, content := range map[string][]byte{name: b, ledgerFile: ledger} {
			node := &brokenNode{seen: content, durable: content}
			d.names["scans/"+name], d.durable["scans/"+name] = node, node
		}
		j, err := OpenJournal("scans", JournalOptions{disk: d, Random: seeded(2)})
		if err != nil {
			return
		}
		read := func() {
			last := int64(0)
			for e, err := range j.Read(t.Context(), 0) {
				if err != nil {
					return
				}
				require.True(t, e.Position > last && (e.Position > 100 || e.Event == anEvent(e.Position-1)),
					"position %d after %d: %+v", e.Position, last, e.Event)
				last = e.Position
			}
			j.Find(t.Context(), anEvent(40).ID)
		}
		read()
		end := j.end()
		require.NoError(t, j.Append(t.Context(), events(900, 901)))
		got := require.All(t, j.Read(t.Context(), end))
		require.True(t, len(got) == 1 && got[0].Event == anEvent(900), "after damage, an append reads as %+v", got)
		if _, err := j.Erase(t.Context(), Users{UserHash{4, 1}: true}, math.MaxInt64); err == nil {
			for e, err := range j.Read(t.Context(), 0) {
				require.True(t, err != nil || e.User != (UserHash{4, 1}), "an erased user is there")
			}
		}
	})
}

// Every single byte of a file altered: nothing but the group that it lies in is lost, and that is said.
func TestJournal_FlippedByteLosesOneGroup(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{})
	for i := range int64(6) {
		require.NoError(t, j.Append(t.Context(), events(3*i, 3*i+3)))
	}
	size := j.segments[0].size
	j.Close()
	sealed, _ := os.ReadFile(filepath.Join(dir, segmentName(1)))
	ledger, _ := os.ReadFile(filepath.Join(dir, ledgerFile))
	for at := range size {
		b := bytes.Clone(sealed)
		b[at] ^= 0x20
		d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
		for name, content := range map[string][]byte{segmentName(1): b, ledgerFile: ledger} {
			node := &brokenNode{seen: content, durable: content}
			d.names["scans/"+name], d.durable["scans/"+name] = node, node
		}
		j, err := OpenJournal("scans", JournalOptions{disk: d})
		if err != nil {
			require.True(t, at < headerSize, "byte %d: %v", at, err)
			continue
		}
		got := require.All(t, j.Read(t.Context(), 0))
		want := 15
		if at < headerSize {
			want = 18
		}
		require.True(t, len(got) == want && (j.Damaged() != 0 || at < 16 || at < headerSize),
			"byte %d: %d events are left, %d damaged", at, len(got), j.Damaged())
		for _, e := range got {
			require.True(t, e.Event == anEvent(e.Position-1), "byte %d: position %d holds %+v", at, e.Position, e.Event)
		}
	}
}

func TestScanLog_WordTableAppendOnly(t *testing.T) {
	// Files hold their numbers: the list may grow, and never change.
	want := " scan press album open_mini_program open_url show_text show_message rule test_link service_rule code not_active unknown_code frozen void no_release serial_only release trial development"
	got := strings.Join(words[:], " ")
	assert.True(t, strings.HasPrefix(got, want), "the words are %q", got)
	seen := map[string]bool{}
	for _, w := range words {
		assert.True(t, !seen[w] && len(w) <= len("open_mini_program"), "the word %q", w)
		seen[w] = true
	}
	assert.True(t, errors.Is(eraseRecord([]byte("x")), errRecord), "what is no record was erased")
}
