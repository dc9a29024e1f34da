// Package archive defines the file that holds an export of a whole server: its members, their checksums, and the keys, which a
// passphrase seals. Package archive does not interpret the rows of the tables, and does not depend on the database that they come from.
//
// An archive is a gzipped tar file: manifest.json, keys.age, and tables/NAME.ndjson for each table. The manifest holds the SHA-256
// of every member. The tar file is followed by an empty gzip stream whose comment contains the SHA-256 of all bytes before this
// stream, so that a change of any byte is detected; programs such as tar and gzip skip the empty stream. The member keys.age
// (age-encryption.org/v1, scrypt) repeats the checksums of the tables and the accounts, so that neither can be replaced without the
// passphrase.
package archive

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Format is the version of the archive format that this package writes, and the newest version that it reads.
const Format = 1

// MinPassphrase is the minimum length of a passphrase in characters.
const MinPassphrase = 12

// The reasons for which an archive is rejected.
var (
	ErrDamaged    = errors.New("the archive is corrupted or truncated, restore another backup")
	ErrNewer      = errors.New("the archive was made by a newer qrjump")
	ErrPassphrase = errors.New("the passphrase is not the one that the archive was encrypted with")
)

// Manifest describes the content of an archive.
type Manifest struct {
	Format    int       `json:"format"`
	Program   string    `json:"program"`
	Schema    int64     `json:"schema"`
	Engine    string    `json:"engine"`
	CreatedAt time.Time `json:"created_at"`
	Accounts  []string  `json:"accounts,omitempty"` // the accounts and platforms of an archive that contains only these; empty = everything
	Members   []Member  `json:"members"`
}

// Member is one file of an archive.
type Member struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Rows returns the number of rows of all tables.
func (m Manifest) Rows() (n int64) {
	for _, member := range m.Members {
		n += member.Rows
	}
	return n
}

// Tables lists the members that are tables.
func (m Manifest) Tables() []Member {
	return slices.DeleteFunc(slices.Clone(m.Members), func(member Member) bool {
		_, ok := tableOf(member.Name)
		return !ok
	})
}

// CheckPassphrase returns an error if a passphrase is not suitable for a new archive.
func CheckPassphrase(passphrase string) error {
	switch {
	case !utf8.ValidString(passphrase):
		return errors.New("the passphrase is not UTF-8 text")
	case utf8.RuneCountInString(passphrase) < MinPassphrase:
		return fmt.Errorf("the passphrase has fewer than %d characters", MinPassphrase)
	}
	return nil
}

const (
	manifestName = "manifest.json"
	keysName     = "keys.age"
)

func memberOf(table string) string { return "tables/" + table + ".ndjson" }

func tableOf(member string) (table string, ok bool) {
	const before, after = len("tables/"), len(".ndjson")
	if len(member) <= before+after {
		return "", false
	}
	table = member[before : len(member)-after]
	return table, memberOf(table) == member
}

// secrets is the content of keys.age.
type secrets struct {
	Keys     map[string][]byte `json:"keys"`
	Schema   int64             `json:"schema"`
	Accounts []string          `json:"accounts,omitempty"`
	Tables   []Member          `json:"tables"`
}

// trailer returns an empty gzip stream (RFC 1952) with the checksum of all bytes before it. trailer writes the stream without
// compress/gzip, because Open compares its bytes.
func trailer(sum []byte) []byte {
	const withComment, unknownSystem = 0x10, 0xff
	b := []byte{0x1f, 0x8b, 8, withComment, 0, 0, 0, 0, 0, unknownSystem}
	b = append(b, "sha256 "+hex.EncodeToString(sum)...)
	b = append(b, 0)                         // end of the gzip comment
	b = append(b, 3, 0)                      // empty final block
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // checksum and length of an empty gzip stream
}

var trailerSize = int64(len(trailer(make([]byte, 32))))
