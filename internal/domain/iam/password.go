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

	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// The cost of a hash: 19 MiB and two passes are what OWASP's cheat sheet of password
// storage names first for argon2id.
const (
	hashMemory  = 19 << 10 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashSize    = 32
	saltSize    = 16
)

const (
	// LeastPassword is the minimum number of characters of a password, MostPassword the maximum number of bytes.
	LeastPassword = 12
	MostPassword  = 1024
)

// At most hashedAtOnce passwords are hashed at once, so that sign-ins cannot take all memory of a server. At most
// mostWaiting more wait, for a second or so; others are told to try again.
const hashedAtOnce, mostWaiting = 4, 32

// derive returns the argon2id key of a password; ErrBusy.
func (d *Service) derive(ctx context.Context, password string, salt []byte, memory, passes uint32, threads uint8,
	size int) ([]byte, error) {
	done, err := d.hashing.Acquire(ctx, hashedAtOnce, mostWaiting)
	if errors.Is(err, semaphore.ErrQueueFull) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	defer done()
	return argon2.IDKey([]byte(password), salt, passes, memory, threads, uint32(size)), nil
}

// hashPassword returns the PHC text of a password, exactly as it was typed.
func (d *Service) hashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(d.Random, salt); err != nil {
		return "", fmt.Errorf("drawing a salt: %w", err)
	}
	key, err := d.derive(ctx, password, salt, hashMemory, hashPasses, hashThreads, hashSize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashPasses, hashThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), err
}

// dummyHash is the hash with which a password of an unknown name is compared, so that the time of the answer is the same.
const dummyHash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// checkPassword compares a password with a PHC text. For "" the answer is no.
func (d *Service) checkPassword(ctx context.Context, phc, password string) (bool, error) {
	known := phc != ""
	if !known {
		phc = dummyHash
	}
	if len(password) > MostPassword {
		password, known = "", false
	}
	var version, memory, passes, threads uint32
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("a password's hash is no argon2id")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &threads); err != nil {
		return false, fmt.Errorf("a password's hash cannot be read: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("a password's salt cannot be read: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || version != argon2.Version || memory > 1<<20 || passes == 0 || passes > 100 || threads == 0 || threads > 64 ||
		len(want) < 16 {
		return false, fmt.Errorf("a password's hash is none of ours")
	}
	got, err := d.derive(ctx, password, salt, memory, passes, uint8(threads), len(want))
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1 && known, err
}

//go:embed common.txt.gz
var commonZipped []byte

// commonest are the passwords that people choose most often, by common_make.go: without
// the digits and signs at their ends, and those that are long enough as they are.
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

// listed reports whether a password is one of the commonest, or one of them with digits and signs
// around it.
func listed(password string) bool {
	for _, text := range spellings(password) {
		if commonest()[text] || commonest()[strings.TrimFunc(text, noLetter)] {
			return true
		}
	}
	return false
}

func noLetter(r rune) bool { return !unicode.IsLetter(r) }

// spellings returns a password in small letters, and the same with letters in place of the digits and
// signs that look like them.
func spellings(password string) []string {
	text := strings.ToLower(password)
	return []string{text, letters.Replace(text)}
}

// letters replaces digits and signs by the letters that they look like.
var letters = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// CheckPassword says why a password is not taken for a person; "" = it is. There is no rule about
// its characters. Passwords that people choose most often are refused: a common word, or a walk
// over the keys or the alphabet, with digits and signs around it; one piece repeated; and those in
// the list of the commonest.
func CheckPassword(password, name string) string {
	switch {
	case utf8.RuneCountInString(password) < LeastPassword:
		return fmt.Sprintf("password: want %d characters or more", LeastPassword)
	case len(password) > MostPassword:
		return fmt.Sprintf("password: want %d bytes at most", MostPassword)
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return "password: want text"
	}
	if listed(password) || common(password, name) {
		return "password: this is one that others guess first: it is on lists of stolen ones, or made of common words, the name, " +
			"repeated pieces or neighbouring keys"
	}
	return ""
}

var commonWords = strings.Fields(`password passwort passwd contrasena motdepasse parola senha secret secure login logon user guest root admin
	administrator welcome willkommen letmein iloveyou ilove love you me my your the and is qrjump qrcode weixin wechat woaini miniprogram
	monkey dragon sunshine princess football baseball basketball superman batman starwars pokemon master shadow michael jennifer jordan
	charlie thomas daniel ashley hello killer freedom whatever trustno computer internet server test testing demo default changeme change
	temp summer winter spring autumn january february march april june july august september october november december monday tuesday
	wednesday thursday friday saturday sunday google apple samsung microsoft facebook linkedin china beijing shanghai access pass word
	abc qwe asd zxc aaa correct horse battery staple`)

// walks are rows of keys, and orders that everybody knows, in both directions.
var walks = func() (list []string) {
	for _, row := range []string{"abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiop", "qwertzuiop", "azertyuiop",
		"asdfghjkl",
		"zxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "q1w2e3r4t5y6u7i8o9p0", "!@#$%^&*()", "qazwsxedcrfvtgbyhnujmikolp"} {
		back := []rune(row)
		for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
			back[i], back[j] = back[j], back[i]
		}
		list = append(list, row, string(back))
	}
	return list
}()

// common reports whether what is left of a password is fewer than six characters, or
// three different ones, once words, walks and repetitions are each taken for one.
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
		if !seen[piece] { // a repeated piece tells nothing new
			seen[piece] = true
			pieces++
		}
		i += n
	}
	return pieces
}
