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

// Signatures are SSHSIG (OpenSSH, PROTOCOL.sshsig), so that ssh-keygen -Y verify
// checks them.

const (
	// Namespace keeps a signature of a package from being one of anything else.
	Namespace = "qrjump-package"
	// Principal is the principal of a line of allowed_signers.
	Principal = "qrjump"

	// onlyPackages is the option of such a line.
	onlyPackages = `namespaces="` + Namespace + `"`

	sigMagic = "SSHSIG"
	sigBlock = "SSH SIGNATURE"
	sigHash  = "sha512"
)

// ErrSignature is returned for a manifest that its signature does not fit, or
// that another key signed.
var ErrSignature = errors.New("the signature of the manifest is not that of the signer")

// Signer signs manifests with one Ed25519 key.
type Signer struct{ key ssh.Signer }

// NewSigner takes the 32 bytes of a seed.
func NewSigner(seed []byte) (*Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("parcel: a signing key has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	key, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	return &Signer{key}, err
}

// PublicKey returns the public half as a line: ssh-ed25519 and Base64.
func (s *Signer) PublicKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.key.PublicKey())))
}

// AllowedSigners returns the line that ssh-keygen -Y verify wants in its file.
func (s *Signer) AllowedSigners() string {
	return Principal + " " + onlyPackages + " " + s.PublicKey()
}

// Fingerprint is SHA256 and Base64, as ssh-keygen -l prints it.
func (s *Signer) Fingerprint() string { return ssh.FingerprintSHA256(s.key.PublicKey()) }

// envelope is the content of a signature.
type envelope struct {
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signed returns the bytes that the key signs.
func signed(message []byte) []byte {
	sum := sha512.Sum512(message)
	return append([]byte(sigMagic), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Sum                       []byte
	}{Namespace, "", sigHash, sum[:]})...)
}

// Sign returns the signature of a message, in its armour.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	made, err := s.key.Sign(rand.Reader, signed(message))
	if err != nil {
		return nil, fmt.Errorf("parcel: signing: %w", err)
	}
	body := ssh.Marshal(envelope{Version: 1, Key: s.key.PublicKey().Marshal(), Namespace: Namespace, Hash: sigHash,
		Signature: ssh.Marshal(made)})
	// ssh-keygen reads lines of 64 characters too, though it writes 70.
	return pem.EncodeToMemory(&pem.Block{Type: sigBlock, Bytes: append([]byte(sigMagic), body...)}), nil
}

// Signers are the keys whose signature is believed.
type Signers []ssh.PublicKey

// ParseSigners reads public keys: a line each, bare or as allowed_signers has it. A line that allowed_signers gives to another
// principal, or for another purpose, is an error: ssh-keygen would not accept it either.
func ParseSigners(text []byte) (Signers, error) {
	var all Signers
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		prev, rest, found := strings.Cut(string(line), ssh.KeyAlgoED25519+" ")
		if !found {
			return nil, fmt.Errorf("the line %.40q has no ssh-ed25519 key", line)
		}
		if prev = strings.TrimSpace(prev); prev != "" && prev != Principal && prev != Principal+" "+onlyPackages {
			return nil, fmt.Errorf("the line %.40q is not for packages of %s: want one that begins with %s %s", line, Principal, Principal,
				onlyPackages)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ssh.KeyAlgoED25519 + " " + rest))
		if err != nil || key.Type() != ssh.KeyAlgoED25519 {
			return nil, fmt.Errorf("the key of the line %.40q is damaged", line)
		}
		all = append(all, key)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no key")
	}
	return all, nil
}

// Verify returns ErrSignature unless one of the signers made the signature of the
// message.
func (all Signers) Verify(message, armoured []byte) error {
	block, _ := pem.Decode(armoured)
	if block == nil || block.Type != sigBlock || !bytes.HasPrefix(block.Bytes, []byte(sigMagic)) {
		return fmt.Errorf("%w: it is damaged", ErrSignature)
	}
	var e envelope
	if err := ssh.Unmarshal(block.Bytes[len(sigMagic):], &e); err != nil || e.Version != 1 || e.Namespace != Namespace ||
		e.Hash != sigHash ||
		e.Reserved != "" {
		return fmt.Errorf("%w: it is none of the kind that a package has", ErrSignature)
	}
	var made ssh.Signature
	if err := ssh.Unmarshal(e.Signature, &made); err != nil || len(made.Rest) != 0 {
		return fmt.Errorf("%w: it is damaged", ErrSignature)
	}
	for _, key := range all {
		if bytes.Equal(key.Marshal(), e.Key) {
			if key.Verify(signed(message), &made) != nil {
				return fmt.Errorf("%w: the manifest was changed", ErrSignature)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: another key made it", ErrSignature)
}
