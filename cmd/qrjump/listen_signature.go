package main

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// isValidSignature reports whether a message of a webhook was signed with the secret (Standard Webhooks 1.0). The timestamp is ignored,
// because the server's clock may have been moved for a test.
func isValidSignature(header http.Header, body []byte, secret string) bool {
	want, ok := webhookSignature(header, body, secret)
	return ok && slices.ContainsFunc(strings.Fields(header.Get("Webhook-Signature")),
		func(name string) bool { return hmac.Equal([]byte(name), []byte(want)) })
}

// webhookSignature returns the signature of a message with a secret; ok is false if the secret is not a valid webhook secret.
func webhookSignature(header http.Header, body []byte, secret string) (signature string, ok bool) {
	text, prefixed := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || len(key) == 0 {
		return "", false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(header.Get("Webhook-Id") + "." + header.Get("Webhook-Timestamp") + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), true
}

// envelope decrypts the messages that are pushed to a platform. Contract: rules §3.2.
type envelope struct {
	appid, token string
	key          []byte
}

// newEnvelope returns the envelope of a platform, or nil if appid is "".
func newEnvelope(appid, token, aesKey string) (*envelope, error) {
	if appid == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(aesKey + "=")
	if token == "" || err != nil || len(key) != 32 {
		return nil, misused("listen.keys", plain(appid))
	}
	return &envelope{appid, token, key}, nil
}

// open verifies that a push has a valid signature and is addressed to this platform, and returns the push's type and decrypted message.
func (e *envelope) open(query url.Values, body []byte) (kind, message string, right bool) {
	var outer struct{ Encrypt string }
	if xml.Unmarshal(body, &outer) != nil {
		return "", string(body), false
	}
	parts := []string{e.token, query.Get("timestamp"), query.Get("nonce"), outer.Encrypt}
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	text, err := base64.StdEncoding.DecodeString(outer.Encrypt)
	if err != nil || len(text) == 0 || len(text)%aes.BlockSize != 0 ||
		!hmac.Equal([]byte(query.Get("msg_signature")), []byte(hex.EncodeToString(sum[:]))) {
		return "", string(body), false
	}
	block, err := aes.NewCipher(e.key)
	if err != nil {
		return "", string(body), false
	}
	cipher.NewCBCDecrypter(block, e.key[:aes.BlockSize]).CryptBlocks(text, text)
	// The plain text consists of 16 random bytes, the length, the message, the AppID, and padding; the last byte is the length of
	// the padding.
	const before = 16 + 4
	end := len(text) - int(text[len(text)-1])
	if end < before {
		return "", string(body), false
	}
	length := binary.BigEndian.Uint32(text[16:before])
	if uint64(length) > uint64(end-before) || string(text[before+int(length):end]) != e.appid {
		return "", string(body), false
	}
	inner := text[before : before+int(length)]
	var entry struct{ InfoType, Event, MsgType string }
	_ = xml.Unmarshal(inner, &entry) // A message without a type is printed with the type "".
	return cmp.Or(entry.InfoType, entry.Event, entry.MsgType), string(inner), true
}
