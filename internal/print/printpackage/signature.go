package printpackage

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Signatures have the format SSHSIG (OpenSSH, PROTOCOL.sshsig), so that ssh-keygen -Y verify can check them.

const (
	// Namespace prevents signatures of packages from being valid for other purposes.
	Namespace = "qrjump-package"
	// Principal is the principal in the allowed_signers file.
	Principal = "qrjump"

	// onlyPackages is the option in the allowed_signers file that restricts a key to packages.
	onlyPackages = `namespaces="` + Namespace + `"`

	sigMagic = "SSHSIG"
	sigBlock = "SSH SIGNATURE"
	sigHash  = "sha512"
)

// ErrSignature is returned for a manifest whose signature is invalid or was made with another key.
var ErrSignature = errors.New("the signature of the manifest is invalid")

// Signer signs manifests with one Ed25519 key.
type Signer struct{ key ssh.Signer }

// NewSigner returns a signer for a seed of 32 bytes.
func NewSigner(seed []byte) (*Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("printpackage: a signing key has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	key, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	return &Signer{key}, err
}

// PublicKey returns the public key as a line: ssh-ed25519 and Base64.
func (s *Signer) PublicKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.key.PublicKey())))
}

// AllowedSigners returns a line for the allowed_signers file of ssh-keygen -Y verify.
func (s *Signer) AllowedSigners() string {
	return Principal + " " + onlyPackages + " " + s.PublicKey()
}

// Fingerprint returns the SHA-256 fingerprint of the public key in Base64, as ssh-keygen -l prints it.
func (s *Signer) Fingerprint() string { return ssh.FingerprintSHA256(s.key.PublicKey()) }

// envelope is the binary content of a signature.
type envelope struct {
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signed returns the bytes to sign for a message.
func signed(message []byte) []byte {
	sum := sha512.Sum512(message)
	return append([]byte(sigMagic), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Sum                       []byte
	}{Namespace, "", sigHash, sum[:]})...)
}

// Sign returns the armoured signature of a message.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	made, err := s.key.Sign(rand.Reader, signed(message))
	if err != nil {
		return nil, fmt.Errorf("printpackage: signing: %w", err)
	}
	body := ssh.Marshal(envelope{Version: 1, Key: s.key.PublicKey().Marshal(), Namespace: Namespace, Hash: sigHash,
		Signature: ssh.Marshal(made)})
	// PEM lines have 64 characters; ssh-keygen writes 70 but accepts 64.
	return pem.EncodeToMemory(&pem.Block{Type: sigBlock, Bytes: append([]byte(sigMagic), body...)}), nil
}

// Signers lists the public keys whose signatures are accepted.
type Signers []ssh.PublicKey

// ParseSigners parses public keys, one per line, either the key alone or in the format of allowed_signers. A line for another principal or
// purpose is an error, because ssh-keygen would reject such a line too.
func ParseSigners(text []byte) (Signers, error) {
	var all Signers
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		prev, rest, found := strings.Cut(string(line), ssh.KeyAlgoED25519+" ")
		if !found {
			return nil, fmt.Errorf("line %.40q has no ssh-ed25519 key", line)
		}
		if prev = strings.TrimSpace(prev); prev != "" && prev != Principal && prev != Principal+" "+onlyPackages {
			return nil, fmt.Errorf("line %.40q is not for packages of %s: want a line that begins with %s %s", line, Principal, Principal,
				onlyPackages)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ssh.KeyAlgoED25519 + " " + rest))
		if err != nil || key.Type() != ssh.KeyAlgoED25519 {
			return nil, fmt.Errorf("line %.40q has an invalid key", line)
		}
		all = append(all, key)
	}
	if len(all) == 0 {
		return nil, errors.New("no key found")
	}
	return all, nil
}

// Verify returns ErrSignature unless one of the signers has signed the message.
func (all Signers) Verify(message, armoured []byte) error {
	block, _ := pem.Decode(armoured)
	if block == nil || block.Type != sigBlock || !bytes.HasPrefix(block.Bytes, []byte(sigMagic)) {
		return fmt.Errorf("%w: it is corrupted", ErrSignature)
	}
	var e envelope
	if err := ssh.Unmarshal(block.Bytes[len(sigMagic):], &e); err != nil || e.Version != 1 || e.Namespace != Namespace ||
		e.Hash != sigHash ||
		e.Reserved != "" {
		return fmt.Errorf("%w: it is not the signature of a package", ErrSignature)
	}
	var made ssh.Signature
	if err := ssh.Unmarshal(e.Signature, &made); err != nil || len(made.Rest) != 0 {
		return fmt.Errorf("%w: it is corrupted", ErrSignature)
	}
	for _, key := range all {
		if bytes.Equal(key.Marshal(), e.Key) {
			if key.Verify(signed(message), &made) != nil {
				return fmt.Errorf("%w: the manifest was changed", ErrSignature)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: it was created with another key", ErrSignature)
}
