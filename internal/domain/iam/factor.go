package iam

import (
	"crypto/hmac"
	"crypto/sha1" // authenticator apps use SHA-1, the default of RFC 6238
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

const (
	stepTime   = 30 // seconds
	recoveries = 10
)

var base = base32.StdEncoding.WithPadding(base32.NoPadding)

// code returns the one-time code (six digits) of a time step. The algorithm is specified in RFC 4226 section 5.3 and RFC 6238 section 4.2.
func code(secret []byte, step int64, digits int) string {
	var message [8]byte
	binary.BigEndian.PutUint64(message[:], uint64(step))
	mac := hmac.New(sha1.New, secret)
	mac.Write(message[:])
	sum := mac.Sum(nil)
	from := sum[len(sum)-1] & 15
	value := uint64(binary.BigEndian.Uint32(sum[from:]) &^ (1 << 31))
	power := uint64(1)
	for range digits {
		power *= 10
	}
	return fmt.Sprintf("%0*d", digits, value%power)
}

// matchCode reports whether a code belongs to the current time step, the previous step or the next step. Each code works once: its
// time step must be later than the step of the last accepted code.
func matchCode(secret, given string, now time.Time, last int64) (step int64, ok bool) {
	raw, err := base.DecodeString(secret)
	if err != nil {
		return 0, false
	}
	for pos := now.Unix()/stepTime - 1; pos <= now.Unix()/stepTime+1; pos++ {
		if subtle.ConstantTimeCompare([]byte(code(raw, pos, 6)), []byte(given)) == 1 && pos > last {
			step, ok = pos, true
		}
	}
	return step, ok
}

// newFactor generates a second factor for a person: its secret, and recovery codes of 80 bits each. hashes contains the hashes of the
// recovery codes.
func (d *Service) newFactor(name string) (f Factor, secret string, hashes []string, err error) {
	raw := make([]byte, 20)
	if _, err := io.ReadFull(d.Random, raw); err != nil {
		return f, "", nil, fmt.Errorf("generating a second factor: %w", err)
	}
	for range recoveries {
		piece := make([]byte, 10)
		if _, err := io.ReadFull(d.Random, piece); err != nil {
			return f, "", nil, fmt.Errorf("generating a recovery code: %w", err)
		}
		recovery := strings.ToLower(base.EncodeToString(piece))
		f.Recovery, hashes = append(f.Recovery, recovery), append(hashes, d.Vault.Hash(recoveryPurpose+name, recovery))
	}
	secret = base.EncodeToString(raw)
	f.URI = factorURI(name, secret)
	return f, secret, hashes, nil
}

// factorURI returns the content of the QR code for an authenticator app.
func factorURI(name, secret string) string {
	return "otpauth://totp/" + url.PathEscape("qrjump:"+name) + "?" +
		url.Values{"secret": {secret}, "issuer": {"qrjump"}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}.Encode()
}
