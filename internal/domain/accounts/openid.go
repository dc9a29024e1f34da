package accounts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// OpenIDs derives the openid of a user for an account. A user's openid never changes and differs between accounts, so the key is permanent.
type OpenIDs struct{ secret []byte }

// NewOpenIDs returns an OpenIDs that uses the given permanent key.
func NewOpenIDs(secret []byte) *OpenIDs { return &OpenIDs{secret: secret} }

// OpenID returns 28 characters that begin with "o", as on the Weixin platform. The openid is an HMAC-SHA-256 over namespace,
// account and user, so only the holder of the key can correlate the users of two accounts.
func (o *OpenIDs) OpenID(namespace, appid, user string) string {
	return o.derive("openid v1", namespace, appid, user)
}

// UnionID returns the ID of a user, which is the same in all accounts of one open-platform account; "" if openPlatform is empty.
func (o *OpenIDs) UnionID(namespace, openPlatform, user string) string {
	if openPlatform == "" {
		return ""
	}
	return o.derive("unionid v1", namespace, openPlatform, user)
}

func (o *OpenIDs) derive(kind, namespace, subject, user string) string {
	m := hmac.New(sha256.New, o.secret)
	// The length prefixes separate the three values unambiguously.
	fmt.Fprintf(m, "%s %d:%s %d:%s %d:%s", kind, len(namespace), namespace, len(subject), subject, len(user), user)
	return "o" + base64.RawURLEncoding.EncodeToString(m.Sum(nil))[:27]
}
