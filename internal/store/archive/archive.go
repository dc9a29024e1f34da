// Package archive is the file that a whole server fits in: which members it has, how they are
// checked, and how the keys in it are sealed by a passphrase. It does not know where rows come
// from, or what they mean.
//
// An archive is a tar in gzip: manifest.json, keys.age, and one tables/NAME.ndjson a table. The manifest holds the SHA-256 of every
// member. After the gzip comes a second, empty one whose comment is the SHA-256 of every byte before it. Programs such as tar and
// gzip skip it, and no byte of the file can change unnoticed. keys.age (age-encryption.org/v1, scrypt) repeats the sums of the
// tables, so that a table cannot be replaced without the passphrase.
package archive

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Format is the version of the format that this package writes, and the newest
// that it reads.
const Format = 1

// MinPassphrase is the minimum length of a passphrase in characters.
const MinPassphrase = 12

// The reasons to refuse an archive.
var (
	ErrDamaged    = errors.New("the archive is damaged or cut off")
	ErrNewer      = errors.New("the archive was made by a newer qrjump")
	ErrPassphrase = errors.New("the passphrase is not the one that the archive was sealed with")
)

// Manifest says what is in an archive.
type Manifest struct {
	Format    int       `json:"format"`
	Program   string    `json:"program"`
	Schema    int64     `json:"schema"`
	Engine    string    `json:"engine"`
	CreatedAt time.Time `json:"created_at"`
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

// CheckPassphrase says what is wrong with a passphrase for a new archive.
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
	Keys   map[string][]byte `json:"keys"`
	Schema int64             `json:"schema"`
	Tables []Member          `json:"tables"`
}

// trailer returns the empty gzip (RFC 1952) with the sum of all before it. It is written byte by byte
// here, because it is compared so.
func trailer(sum []byte) []byte {
	const withComment, unknownSystem = 0x10, 0xff
	b := []byte{0x1f, 0x8b, 8, withComment, 0, 0, 0, 0, 0, unknownSystem}
	b = append(b, "sha256 "+hex.EncodeToString(sum)...)
	b = append(b, 0)                         // the end of the comment
	b = append(b, 3, 0)                      // an empty last block
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sum and length of nothing
}

var trailerSize = int64(len(trailer(make([]byte, 32))))
