package scanlog

import (
	"bytes"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// FuzzRecord verifies that a decoded record survives encoding and decoding unchanged, and that no input causes a panic.
func FuzzRecord(f *testing.F) {
	for n := range int64(20) {
		e := newEvent(n)
		f.Add(AppendRecord(nil, &e))
	}
	f.Add([]byte{recordVersion})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in Texts
		e, err := DecodeRecord(b, &in)
		if err != nil {
			require.Equal(t, e, Event{}, "event of DecodeRecord() with an error")
			return
		}
		decoded, err := DecodeRecord(AppendRecord(nil, &e), &in)
		require.True(t, err == nil && decoded == e, "DecodeRecord(AppendRecord()) = %+v, %v, want %+v", decoded, err, e)
		require.Equal(t, e.Sanitized(), e, "Sanitized() of a decoded event")
		id, ok := RecordID(b)
		require.True(t, ok && id == e.ID, "RecordID() = %v, %v, want %v", id, ok, e.ID)
		u, _ := recordUser(b)
		require.Equal(t, u, e.User, "recordUser()")
		if eraseRecord(b) == nil {
			e, err := DecodeRecord(b, &in)
			require.True(t, err == nil && e == *Anonymous(&decoded), "DecodeRecord() after an erasure = %+v, %v, want %+v", e, err,
				*Anonymous(&decoded))
		}
	})
}

// FuzzTexts verifies that a record contains the sanitized event for any texts of a client.
func FuzzTexts(f *testing.F) {
	f.Add("app/1", "https://h.example/", "scan", uint64(1))
	f.Add("\xff\x00", strings.Repeat("界", 300), "\x00", uint64(1<<63))
	f.Fuzz(func(t *testing.T, client, text, source string, n uint64) {
		e := newEvent(int64(n % 1000))
		e.Client, e.Text, e.Source, e.Region, e.App = client, text, source, client, text
		e.RuleID, e.Index = int64(n), -int64(n)
		e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}), int(n%33))
		b := AppendRecord(nil, &e)
		require.True(t, len(b) <= maxRecord, "record has %d bytes, want at most %d", len(b), maxRecord)
		var in Texts
		got, err := DecodeRecord(b, &in)
		require.True(t, err == nil && got == e.Sanitized(), "DecodeRecord() = %+v, %v, want %+v", got, err, e.Sanitized())
		require.True(t, utf8.ValidString(got.Text) && !strings.ContainsRune(got.Text, 0) &&
			(strings.HasPrefix(strings.ToValidUTF8(text, "�"), strings.ReplaceAll(got.Text, " ", " ")) || strings.Contains(text, "\x00") ||
				!utf8.ValidString(text)), "text of %q = %q, want a valid prefix", text, got.Text)
	})
}

// FuzzSegment changes a segment file anywhere. Only events that were written may be read, in order, and no size in the file may cause a
// panic or a large allocation.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	j := require.Value(OpenJournal(dir, JournalOptions{Random: newRandom(1)}))(f)
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
	f.Fuzz(func(t *testing.T, unsealed bool, offset, cut uint32, change []byte) {
		b := bytes.Clone(sealed)
		if unsealed {
			b = bytes.Clone(open)
		}
		offset %= uint32(len(b))
		if n := copy(b[offset:], change); cut > 0 { // removes bytes after the change
			from := min(int(offset)+n, len(b))
			b = append(b[:from:from], b[min(from+int(cut%8192), len(b)):]...)
		}
		d := newBrokenDiskWith(map[string][]byte{name: b, ledgerFile: ledger})
		j, err := OpenJournal("scans", JournalOptions{disk: d, Random: newRandom(2)})
		if err != nil {
			return
		}
		read := func() {
			last := int64(0)
			for e, err := range j.Read(t.Context(), 0) {
				if err != nil {
					return
				}
				require.True(t, e.Position > last && (e.Position > 100 || e.Event == newEvent(e.Position-1)),
					"event at position %d after %d = %+v, want ascending positions and the written event", e.Position, last, e.Event)
				last = e.Position
			}
			j.Find(t.Context(), newEvent(40).ID)
		}
		read()
		end := j.end()
		require.NoError(t, j.Append(t.Context(), events(900, 901)))
		got := require.All(t, j.Read(t.Context(), end))
		require.True(t, len(got) == 1 && got[0].Event == newEvent(900), "events appended after the change = %+v, want event 900", got)
		if _, err := j.Erase(t.Context(), Users{UserHash{4, 1}: true}, math.MaxInt64); err == nil {
			for e, err := range j.Read(t.Context(), 0) {
				require.True(t, err != nil || e.User != (UserHash{4, 1}), "event at position %d has an erased user, want none", e.Position)
			}
		}
	})
}

// TestJournal_FlippedByteLosesOneGroup changes each byte of a segment. Only the group with the byte may be lost, and Damaged reports it.
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
	for offset := range size {
		b := bytes.Clone(sealed)
		b[offset] ^= 0x20
		d := newBrokenDiskWith(map[string][]byte{segmentName(1): b, ledgerFile: ledger})
		j, err := OpenJournal("scans", JournalOptions{disk: d})
		if err != nil {
			require.True(t, offset < headerSize, "byte %d: OpenJournal() = %v, want success", offset, err)
			continue
		}
		got := require.All(t, j.Read(t.Context(), 0))
		want := 15
		if offset < headerSize {
			want = 18
		}
		require.True(t, len(got) == want && (j.Damaged() != 0 || offset < 16 || offset < headerSize),
			"byte %d: %d events, Damaged() = %d, want %d events and reported damage", offset, len(got), j.Damaged(), want)
		for _, e := range got {
			require.Equal(t, e.Event, newEvent(e.Position-1), "event at position %d with byte %d changed", e.Position, offset)
		}
	}
}

func TestScanLog_WordTableAppendOnly(t *testing.T) {
	// Files contain indexes of words: words may be appended, but existing indexes must not change.
	want := " scan press album open_mini_program open_url show_text show_message rule test_link service_rule code not_active unknown_code frozen void no_release serial_only release trial development"
	got := strings.Join(words[:], " ")
	assert.True(t, strings.HasPrefix(got, want), "words = %q, want the prefix %q", got, want)
	seen := map[string]bool{}
	for _, w := range words {
		assert.True(t, !seen[w] && len(w) <= len("open_mini_program"), "word %q is a duplicate or too long", w)
		seen[w] = true
	}
	assert.ErrorIs(t, eraseRecord([]byte("x")), errRecord, "eraseRecord() of an invalid record")
}
