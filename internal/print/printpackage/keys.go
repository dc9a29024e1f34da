package printpackage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// workFactor is the scrypt work factor for a passphrase, as in the age program: 256 MiB. Decryption of a file from an untrusted
// source is limited to the same work factor.
const workFactor = 18

// Recipients parses public keys to which one file can be encrypted: age1…, ssh-ed25519 or ssh-rsa.
func Recipients(keys []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, key := range keys {
		item, err := recipient(strings.TrimSpace(key))
		if err != nil {
			return nil, fmt.Errorf("recipient %.30q: want a public key: age1…, ssh-ed25519 … or ssh-rsa …", key)
		}
		all = append(all, item)
	}
	if len(all) == 0 {
		return nil, errors.New("no recipient given")
	}
	// Some kinds of keys cannot be used together; the test encryption reports this now, before a download fails.
	if _, err := age.Encrypt(io.Discard, all...); err != nil {
		return nil, err
	}
	return all, nil
}

func recipient(key string) (age.Recipient, error) {
	if strings.HasPrefix(key, "ssh-") {
		return agessh.ParseRecipient(key)
	}
	found, err := age.ParseRecipients(strings.NewReader(key))
	if err != nil || len(found) != 1 {
		return nil, errors.New("not an age recipient")
	}
	return found[0], nil
}

// ForPassphrase returns a recipient for a passphrase of at least 12 characters. work is the scrypt work factor, which makes each
// guess of the passphrase expensive; 0 = the default of the age program.
func ForPassphrase(word string, work int) ([]age.Recipient, error) {
	if len(word) < 12 {
		return nil, errors.New("a passphrase has at least 12 characters")
	}
	r, err := age.NewScryptRecipient(word)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(cmp.Or(work, workFactor))
	return []age.Recipient{r}, nil
}

// Identities parses private keys: a file of age-keygen, or a file of ssh-keygen without a passphrase.
func Identities(text []byte) ([]age.Identity, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN")) {
		identity, err := agessh.ParseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("the SSH key cannot be read (%v); if it has a passphrase, use the program age: age -d -i KEY FILE", err)
		}
		return []age.Identity{identity}, nil
	}
	all, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("no private key found: want a file of age-keygen, or an SSH key")
	}
	return all, nil
}

// ByPassphrase returns the identity that decrypts a file encrypted with ForPassphrase.
func ByPassphrase(word string) ([]age.Identity, error) {
	identity, err := age.NewScryptIdentity(word)
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(workFactor)
	return []age.Identity{identity}, nil
}
