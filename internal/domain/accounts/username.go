package accounts

import (
	"crypto/sha256"
	"encoding/hex"
)

// UserName returns the account's original ID: "gh_" and twelve hexadecimal digits, which never change. Assumed(message.user_name):
// the original ID is derived from the AppID, so it needs no column and is the same on every server.
func (a Account) UserName() string {
	sum := sha256.Sum256([]byte("user name " + a.AppID))
	return "gh_" + hex.EncodeToString(sum[:6])
}
