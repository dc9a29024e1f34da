package scanlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// A record is the binary encoding of an event:
//
//	version  1 byte
//	id       16 bytes
//	flags    1 byte: has a user, has a network, the network is of IPv6
//	user     16 bytes, if the event has a user
//	at       signed varint: milliseconds after the time in the id
//	words    source, action, kind, reason, version, as appendText encodes them
//	texts    client, region, app, text, as appendFree encodes them
//	network  length of the prefix in bits, and the bytes that contain these bits
//	numbers  rule, batch, index, activation: signed varints
//	zeros    one byte for each byte that an erasure removed
//
// The fields of a record at fixed offsets (id, flags, user) can be read without decoding the rest.
const recordVersion = 1

const (
	flagUser = 1 << iota
	flagNetwork
	flagIPv6
	knownFlags = flagUser | flagNetwork | flagIPv6
)

// Maximum lengths, in bytes, of the texts of an event. Texts longer than their maximum are truncated when the event is stored.
const (
	MaxClient = 64
	MaxText   = 512
	maxApp    = 128 // 32 characters
	maxWord   = 64
	// maxRecord is an upper bound for the length of a record in bytes.
	maxRecord = 2048
)

// errRecord is returned for bytes that are not a valid record.
var errRecord = errors.New("scanlog: invalid scan record")

// words lists frequent texts, which records store as their index in this list. New entries may only be appended at the end, because files
// contain indexes into this list.
var words = [...]string{"",
	"scan", "press", "album",
	"open_mini_program", "open_url", "show_text", "show_message",
	"rule", "test_link", "service_rule", "code",
	"not_active", "unknown_code", "frozen", "void", "no_release", "serial_only",
	"release", "trial", "development"}

var wordNumbers = func() map[string]uint64 {
	m := map[string]uint64{}
	for i, w := range words {
		m[w] = uint64(i)
	}
	return m
}()

// appendText appends a number and, if needed, a text of at most maxWord bytes: an odd number stands for an entry of the list words, and an
// even number is twice the length of the text that follows.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, 1)
	}
	if s = Fit(s, maxWord); len(s) <= len("open_mini_program") {
		if n, ok := wordNumbers[s]; ok {
			return binary.AppendUvarint(b, n<<1|1)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s))<<1)
	return append(b, s...)
}

// appendFree appends a text without looking it up in the list words.
func appendFree(b []byte, s string, limit int) []byte {
	s = Fit(s, limit)
	b = binary.AppendUvarint(b, uint64(len(s))<<1)
	return append(b, s...)
}

// Fit replaces bytes that a store may reject, and truncates a text to limit bytes at a character boundary.
func Fit(s string, limit int) string {
	if len(s) > limit {
		n := limit
		for n > limit-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	if !utf8.ValidString(s) {
		s = Fit(strings.ToValidUTF8(s, "�"), limit)
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", " ")
	}
	return s
}

// Sanitized returns an event as a log stores it: texts limited by Fit, a network without host bits, a time in milliseconds.
func (e *Event) Sanitized() Event {
	kept := *e
	kept.OccurredAt = atMillis(e.OccurredAt.UnixMilli())
	if e.Network.IsValid() {
		kept.Network = e.Network.Masked()
	}
	for _, t := range []struct {
		text  *string
		limit int
	}{{&kept.Source, maxWord}, {&kept.Client, MaxClient}, {&kept.Region, maxWord}, {&kept.Action, maxWord}, {&kept.Kind, maxWord},
		{&kept.Reason, maxWord},
		{&kept.App, maxApp}, {&kept.Version, maxWord}, {&kept.Text, MaxText}} {
		*t.text = Fit(*t.text, t.limit)
	}
	return kept
}

// idMillis returns the time of an id in Unix milliseconds.
func idMillis(id *ScanID) int64 {
	return int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
}

// AppendRecord appends the encoding of an event to b. AppendRecord allocates only if b has to grow.
func AppendRecord(b []byte, e *Event) []byte {
	b = append(b, recordVersion)
	b = append(b, e.ID[:]...)
	flags, network := byte(0), netip.Prefix{}
	if e.User != (UserHash{}) {
		flags |= flagUser
	}
	if e.Network.IsValid() {
		network = e.Network.Masked()
		flags |= flagNetwork
		if !network.Addr().Is4() {
			flags |= flagIPv6
		}
	}
	b = append(b, flags)
	if flags&flagUser != 0 {
		b = append(b, e.User[:]...)
	}
	b = binary.AppendVarint(b, e.OccurredAt.UnixMilli()-idMillis(&e.ID))
	b = appendText(b, e.Source)
	b = appendText(b, e.Action)
	b = appendText(b, e.Kind)
	b = appendText(b, e.Reason)
	b = appendText(b, e.Version)
	b = appendFree(b, e.Client, MaxClient)
	b = appendFree(b, e.Region, maxWord)
	b = appendFree(b, e.App, maxApp)
	b = appendFree(b, e.Text, MaxText)
	if flags&flagNetwork != 0 {
		bits := network.Bits()
		b = append(b, byte(bits))
		reach := (bits + 7) / 8
		if flags&flagIPv6 != 0 {
			a := network.Addr().As16()
			b = append(b, a[:reach]...)
		} else {
			a := network.Addr().As4()
			b = append(b, a[:reach]...)
		}
	}
	b = binary.AppendVarint(b, e.RuleID)
	b = binary.AppendVarint(b, e.Batch)
	b = binary.AppendVarint(b, e.Index)
	return binary.AppendVarint(b, e.Activation)
}

// RecordID returns the id of a record; ok is false if b is too short for a record.
func RecordID(b []byte) (id ScanID, ok bool) {
	if len(b) < 18 || b[0] != recordVersion {
		return id, false
	}
	return ScanID(b[1:17]), true
}

// recordUser returns the user hash of a record.
func recordUser(b []byte) (u UserHash, ok bool) {
	if len(b) < 34 || b[0] != recordVersion || b[17]&flagUser == 0 {
		return u, false
	}
	return UserHash(b[18:34]), true
}

// Texts holds one copy of each frequent text, so that equal strings share memory.
type Texts map[string]string

// maxInterned limits the number of texts that a reader keeps.
const maxInterned = 4096

func (in *Texts) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := (*in)[string(b)]; ok {
		return s
	}
	if *in == nil || len(*in) >= maxInterned {
		*in = Texts{}
	}
	s := string(b)
	(*in)[s] = s
	return s
}

// FieldReader decodes consecutive fields. A field that cannot be decoded is zero, and sets Failed.
type FieldReader struct {
	Rest   []byte // not decoded yet
	Failed bool
}

// Next returns the next n bytes.
func (r *FieldReader) Next(n int) []byte {
	if r.Failed || n < 0 || n > len(r.Rest) {
		r.Failed = true
		return nil
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Byte returns the next byte.
func (r *FieldReader) Byte() byte {
	if b := r.Next(1); b != nil {
		return b[0]
	}
	return 0
}

// Varint returns the next signed varint.
func (r *FieldReader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Failed = true
		return 0
	}
	r.Next(n)
	return v
}

// Uvarint returns the next unsigned varint.
func (r *FieldReader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.Failed = true
		return 0
	}
	r.Next(n)
	return v
}

// text reads a text that appendText wrote, of at most limit bytes.
func (r *FieldReader) text(in *Texts, limit int) string {
	v := r.Uvarint()
	if v&1 == 1 && v>>1 < uint64(len(words)) {
		return words[v>>1]
	}
	if v&1 == 1 || v>>1 > uint64(limit) {
		r.Failed = true
		return ""
	}
	b := r.Next(int(v >> 1))
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.Failed = true
		return ""
	}
	if limit == MaxText {
		return string(b)
	}
	return in.text(b)
}

// DecodeRecord decodes an event that AppendRecord has encoded. DecodeRecord allocates memory only for the texts of the record.
func DecodeRecord(b []byte, in *Texts) (e Event, err error) {
	if len(b) > maxRecord {
		return e, errRecord
	}
	id, ok := RecordID(b)
	if !ok {
		return e, errRecord
	}
	e.ID = id
	r := FieldReader{Rest: b[17:]}
	flags := r.Byte()
	if flags&^byte(knownFlags) != 0 || flags&flagIPv6 != 0 && flags&flagNetwork == 0 {
		return Event{}, errRecord
	}
	if flags&flagUser != 0 {
		copy(e.User[:], r.Next(len(e.User)))
		r.Failed = r.Failed || e.User == (UserHash{})
	}
	start := r.Varint()
	r.Failed = r.Failed || start > math.MaxInt64>>1 || start < math.MinInt64>>1
	e.OccurredAt = atMillis(idMillis(&e.ID) + start)
	e.Source = r.text(in, maxWord)
	e.Action = r.text(in, maxWord)
	e.Kind = r.text(in, maxWord)
	e.Reason = r.text(in, maxWord)
	e.Version = r.text(in, maxWord)
	e.Client = r.text(in, MaxClient)
	e.Region = r.text(in, maxWord)
	e.App = r.text(in, maxApp)
	e.Text = r.text(in, MaxText)
	if flags&flagNetwork != 0 {
		var fullPair [16]byte
		bits := int(r.Byte())
		var address netip.Addr
		if flags&flagIPv6 == 0 {
			r.Failed = r.Failed || bits > 32
			copy(fullPair[:4], r.Next(min((bits+7)/8, 4)))
			address = netip.AddrFrom4([4]byte(fullPair[:4]))
		} else {
			r.Failed = r.Failed || bits > 128
			copy(fullPair[:], r.Next(min((bits+7)/8, 16)))
			address = netip.AddrFrom16(fullPair)
		}
		if e.Network, err = address.Prefix(min(bits, address.BitLen())); err != nil {
			r.Failed = true
		}
	}
	e.RuleID, e.Batch, e.Index, e.Activation = r.Varint(), r.Varint(), r.Varint(), r.Varint()
	for _, zero := range r.Rest {
		r.Failed = r.Failed || zero != 0
	}
	if r.Failed {
		return Event{}, errRecord
	}
	return e, nil
}

// eraseRecord makes a record anonymous without changing its length: it removes the user, the client text and the network.
func eraseRecord(b []byte) error {
	var in Texts
	e, err := DecodeRecord(b, &in)
	if err != nil {
		return err
	}
	anonymous := AppendRecord(make([]byte, 0, maxRecord), Anonymous(&e))
	if len(anonymous) > len(b) {
		return errRecord
	}
	clear(b[copy(b, anonymous):])
	return nil
}

// Anonymous returns an event without the fields that an erasure removes.
func Anonymous(e *Event) *Event {
	left := *e
	left.User, left.Client, left.Network = UserHash{}, "", netip.Prefix{}
	return &left
}
