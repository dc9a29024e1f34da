package iam

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// The parameters of argon2id: 19 MiB and two passes are OWASP's first recommendation (password storage cheat sheet).
const (
	hashMemory  = 19 << 10 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashSize    = 32
	saltSize    = 16
)

const (
	// MinPassword is the minimum number of characters of a password, MaxPassword the maximum number of bytes.
	MinPassword = 12
	MaxPassword = 1024
)

// At most hashedAtOnce passwords are hashed concurrently, so that sign-ins cannot exhaust the memory of the server. At most maxWaiting more
// requests wait, for about a second; beyond this number, requests are rejected with ErrBusy.
const hashedAtOnce, maxWaiting = 4, 32

// argonCost holds the parameters of argon2id: the memory in KiB, the number of passes and threads, and the length of the key in bytes.
type argonCost struct {
	memory, passes uint32
	threads        uint8
	size           int
}

// derive returns the argon2id key of a password, or ErrBusy if too many requests are waiting.
func (d *Service) derive(ctx context.Context, password string, salt []byte, c argonCost) ([]byte, error) {
	done, err := d.hashing.Acquire(ctx, hashedAtOnce, maxWaiting)
	if errors.Is(err, semaphore.ErrQueueFull) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	defer done()
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, uint32(c.size)), nil
}

// hashPassword returns the hash of a password, exactly as typed, in PHC string format.
func (d *Service) hashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(d.Random, salt); err != nil {
		return "", fmt.Errorf("generating a salt: %w", err)
	}
	key, err := d.derive(ctx, password, salt, argonCost{hashMemory, hashPasses, hashThreads, hashSize})
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashPasses, hashThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), err
}

// dummyHash is compared with the password if the name is unknown, so that the response takes the same time as for a known name.
const dummyHash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// checkPassword compares a password with a hash in PHC string format. If the hash is "", checkPassword returns false.
func (d *Service) checkPassword(ctx context.Context, phc, password string) (bool, error) {
	known := phc != ""
	if !known {
		phc = dummyHash
	}
	if len(password) > MaxPassword {
		password, known = "", false
	}
	var version, memory, passes, threads uint32
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("a stored password hash is not argon2id")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &threads); err != nil {
		return false, fmt.Errorf("reading a stored password hash: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("reading the salt of a stored password hash: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || version != argon2.Version || memory > 1<<20 || passes == 0 || passes > 100 || threads == 0 || threads > 64 ||
		len(want) < 16 {
		return false, fmt.Errorf("a stored password hash has unsupported parameters")
	}
	got, err := d.derive(ctx, password, salt, argonCost{memory, passes, uint8(threads), len(want)})
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1 && known, err
}

//go:embed common.txt.gz
var commonZipped []byte

// commonest contains the most common passwords without the digits and signs at their ends; it also contains the long passwords with their
// ends (common_generate.go).
var commonest = sync.OnceValue(func() map[string]bool {
	r, err := gzip.NewReader(bytes.NewReader(commonZipped))
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	list := map[string]bool{}
	for word := range strings.Lines(string(text)) {
		list[strings.TrimSuffix(word, "\n")] = true
	}
	return list
})

// listed reports whether a password is one of the most common passwords, possibly with digits and signs around it.
func listed(password string) bool {
	return slices.ContainsFunc(spellings(password), func(text string) bool {
		return commonest()[text] || commonest()[strings.TrimFunc(text, noLetter)]
	})
}

func noLetter(r rune) bool { return !unicode.IsLetter(r) }

// spellings returns a password in lower case, and a copy in which look-alike digits and signs are replaced by letters.
func spellings(password string) []string {
	text := strings.ToLower(password)
	return []string{text, letters.Replace(text)}
}

// letters replaces digits and signs by the letters that they resemble.
var letters = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// CheckPassword returns accounts.Invalid with the reason if a password is not acceptable for a person. There is no rule about which
// characters a password must contain. Rejected are the most common passwords, also with digits and signs around them, and passwords with
// too few different parts (see the function common).
func CheckPassword(password, name string) error {
	switch {
	case utf8.RuneCountInString(password) < MinPassword:
		return accounts.Invalid(fmt.Sprintf("password: want %d characters or more", MinPassword))
	case len(password) > MaxPassword:
		return accounts.Invalid(fmt.Sprintf("password: want %d bytes at most", MaxPassword))
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return accounts.Invalid("password: want text")
	}
	if listed(password) || common(password, name) {
		return accounts.Invalid("password: too easy to guess: it is on a list of stolen passwords, or consists of common words, the name, " +
			"repeated parts or adjacent keys")
	}
	return nil
}

var commonWords = strings.Fields(`password passwort passwd contrasena motdepasse parola senha secret secure login logon user guest root admin
	administrator welcome willkommen letmein iloveyou ilove love you me my your the and is qrjump qrcode weixin wechat woaini miniprogram
	monkey dragon sunshine princess football baseball basketball superman batman starwars pokemon master shadow michael jennifer jordan
	charlie thomas daniel ashley hello killer freedom whatever trustno computer internet server test testing demo default changeme change
	temp summer winter spring autumn january february march april june july august september october november december monday tuesday
	wednesday thursday friday saturday sunday google apple samsung microsoft facebook linkedin china beijing shanghai access pass word
	abc qwe asd zxc aaa correct horse battery staple`)

// walks lists rows of keyboard keys and well-known sequences, in both directions.
var walks = func() (list []string) {
	for _, row := range []string{"abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiop", "qwertzuiop", "azertyuiop",
		"asdfghjkl",
		"zxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "q1w2e3r4t5y6u7i8o9p0", "!@#$%^&*()", "qazwsxedcrfvtgbyhnujmikolp"} {
		back := []byte(row)
		slices.Reverse(back)
		list = append(list, row, string(back))
	}
	return list
}()

// common reports whether a password has fewer than six different parts; a part is a word, a sequence of keys or letters, or a single
// character that belongs to neither.
func common(password, name string) bool {
	return slices.ContainsFunc(spellings(password), func(text string) bool { return minimumLength(text, name) < 6 })
}

func minimumLength(text, name string) int {
	words := append([]string{strings.ToLower(name)}, commonWords...)
	r := []rune(text)
	pieces, seen := 0, map[string]bool{}
	for i := 0; i < len(r); {
		n, rest := 1, string(r[i:])
		for _, w := range words {
			if len(w) > 1 && strings.HasPrefix(rest, w) {
				n = max(n, len([]rune(w)))
			}
		}
		for _, walk := range walks {
			for k := len(r) - i; k >= 3 && k > n; k-- {
				if strings.Contains(walk, string(r[i:i+k])) {
					n = k
				}
			}
		}
		piece := string(r[i : i+n])
		if !seen[piece] { // a repeated part of the password adds no strength
			seen[piece] = true
			pieces++
		}
		i += n
	}
	return pieces
}
