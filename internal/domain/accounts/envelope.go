package accounts

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Envelope encrypts and signs messages to a component. Contract: rules §3.2, clients "The ticket push".
type Envelope struct {
	AppID  string // AppID of the component
	Token  string // message token of the component
	AESKey string // EncodingAESKey of the component, 43 characters
}

// Sealed is an encrypted message: the query parameters and the request body.
type Sealed struct {
	Query url.Values
	Body  []byte
}

// messageBlock is the block size in bytes to which the Weixin platform pads messages; AES itself needs blocks of 16 bytes.
const messageBlock = 32

// spare returns the number of bytes to add to a message of n bytes so that the padding of the longer message has 1 to 16 bytes. Padding of
// 1 to 16 bytes is valid for receivers that expect PKCS#7 blocks of 32 bytes and for receivers that expect 16. Contract: clients.
func (e Envelope) spare(n int) int {
	return max(0, messageBlock/2-(16+4+n+len(e.AppID))%messageBlock)
}

// Seal encrypts and signs a message. Some receivers reject a signature older than five minutes, so every retry encrypts and signs
// the message again.
func (e Envelope) Seal(random io.Reader, now time.Time, message []byte) (Sealed, error) {
	key, err := base64.StdEncoding.DecodeString(e.AESKey + "=")
	if err != nil || len(key) != 32 {
		return Sealed{}, errors.New("the EncodingAESKey is not 43 characters of Base64")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return Sealed{}, err
	}
	drawn := make([]byte, 24)
	if _, err := io.ReadFull(random, drawn); err != nil {
		return Sealed{}, fmt.Errorf("generating an envelope: %w", err)
	}
	plain := bytes.NewBuffer(drawn[:16:16])
	length := binary.BigEndian.AppendUint32(nil, uint32(len(message)))
	plain.Write(length)
	plain.Write(message)
	plain.WriteString(e.AppID)
	padding := messageBlock - plain.Len()%messageBlock
	plain.Write(bytes.Repeat([]byte{byte(padding)}, padding))
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(plain.Bytes(), plain.Bytes())
	text := base64.StdEncoding.EncodeToString(plain.Bytes())

	timestamp := strconv.FormatInt(now.Unix(), 10)
	nonce := strconv.FormatUint(uint64(binary.BigEndian.Uint32(drawn[16:])), 10)
	return Sealed{
		Query: url.Values{"timestamp": {timestamp}, "nonce": {nonce}, "encrypt_type": {"aes"},
			"signature": {signature(e.Token, timestamp, nonce)}, "msg_signature": {signature(e.Token, timestamp, nonce, text)}},
		Body: []byte("<xml><AppId>" + cdata(e.AppID) + "</AppId><Encrypt>" + cdata(text) + "</Encrypt></xml>"),
	}, nil
}

// signature returns the SHA-1 hash of the sorted texts, as defined by the Weixin platform.
func signature(texts ...string) string {
	slices.Sort(texts)
	sum := sha1.Sum([]byte(strings.Join(texts, "")))
	return hex.EncodeToString(sum[:])
}

// cdata returns s as escaped XML text. An AppID may contain characters that CDATA cannot contain.
func cdata(s string) string {
	if !strings.Contains(s, "]]>") {
		return "<![CDATA[" + s + "]]>"
	}
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a strings.Builder never returns an error
	}
	return b.String()
}
