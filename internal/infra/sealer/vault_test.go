package sealer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The reference functions implement the published constructions from their definitions. They are tested against the published vectors,
// then Key is compared with them.

// referenceHMAC is HMAC-SHA-256 as defined in RFC 2104.
func referenceHMAC(key, text []byte) []byte {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	var inner, outer [sha256.BlockSize]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner[:], text...))
	sum = sha256.Sum256(append(outer[:], sum[:]...))
	return sum[:]
}

// referenceExtract and referenceExpand are HKDF-SHA-256 as defined in RFC 5869.
func referenceExtract(secret, salt []byte) []byte {
	if len(salt) == 0 {
		salt = make([]byte, sha256.Size)
	}
	return referenceHMAC(salt, secret)
}

func referenceExpand(prk []byte, info string, length int) []byte {
	var out, last []byte
	for n := byte(1); len(out) < length; n++ {
		last = referenceHMAC(prk, append(append(bytes.Clone(last), info...), n))
		out = append(out, last...)
	}
	return out[:length]
}

func decodeHex(t *testing.T, text string) []byte {
	t.Helper()
	return require.Value(hex.DecodeString(strings.ReplaceAll(text, " ", "")))(t)
}

func wantBytes(t *testing.T, name string, got, want []byte) {
	t.Helper()
	assert.True(t, bytes.Equal(got, want), "%s = %x, want %x", name, got, want)
}

// ascendingBytes returns n bytes: first, first+1 and so on.
func ascendingBytes(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func TestHMAC_RFC4231Vectors(t *testing.T) {
	for n, v := range []struct {
		key  []byte
		data string
		mac  string
	}{
		{bytes.Repeat([]byte{0x0b}, 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{[]byte("Jefe"), "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{bytes.Repeat([]byte{0xaa}, 20), strings.Repeat("\xdd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{ascendingBytes(1, 25), strings.Repeat("\xcd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
		{bytes.Repeat([]byte{0x0c}, 20), "Test With Truncation", "a3b6167473100ee06e0c796c2955552b"},
		{bytes.Repeat([]byte{0xaa}, 131), "Test Using Larger Than Block-Size Key - Hash Key First",
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{bytes.Repeat([]byte{0xaa}, 131),
			"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
			"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		t.Run("case "+strconv.Itoa(n+1), func(t *testing.T) {
			want := decodeHex(t, v.mac)
			wantBytes(t, "referenceHMAC", referenceHMAC(v.key, []byte(v.data))[:len(want)], want)
			m := hmac.New(sha256.New, v.key)
			io.WriteString(m, v.data)
			wantBytes(t, "hmac.New", m.Sum(nil)[:len(want)], want)
		})
	}
}

func TestHKDF_RFC5869Vectors(t *testing.T) {
	for n, v := range []struct {
		secret, salt, info []byte
		prk, okm           string
	}{
		{bytes.Repeat([]byte{0x0b}, 22), ascendingBytes(0, 13), ascendingBytes(0xf0, 10),
			"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{ascendingBytes(0, 80), ascendingBytes(0x60, 80), ascendingBytes(0xb0, 80),
			"06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
		{bytes.Repeat([]byte{0x0b}, 22), nil, nil,
			"19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		t.Run("case "+strconv.Itoa(n+1), func(t *testing.T) {
			want := decodeHex(t, v.okm)
			prk := referenceExtract(v.secret, v.salt)
			wantBytes(t, "referenceExtract", prk, decodeHex(t, v.prk))
			wantBytes(t, "referenceExpand", referenceExpand(prk, string(v.info), len(want)), want)
			got := require.Value(hkdf.Key(sha256.New, v.secret, v.salt, string(v.info), len(want)))(t)
			wantBytes(t, "hkdf.Key", got, want)
		})
	}
}

func newKey(t *testing.T, secret []byte) *Key {
	t.Helper()
	return require.Value(NewKey(secret))(t)
}

// referenceDerive returns the key that NewKey must derive from a secret.
func referenceDerive(secret []byte, info string) []byte {
	return referenceExpand(referenceExtract(secret, nil), info, KeySize)
}

func TestKeyHash_MatchesReferenceHMAC(t *testing.T) {
	secret := ascendingBytes(0x40, KeySize)
	k := newKey(t, secret)
	for _, c := range [][2]string{{"appsecret/wxa", "secret0001"}, {"", ""}, {"access_token", strings.Repeat("x", 200)},
		{"扫码", "\x00\xff"}} {
		text := strconv.Itoa(len(c[0])) + ":" + c[0] + c[1]
		want := hex.EncodeToString(referenceHMAC(referenceDerive(secret, "qrjump hash v1"), []byte(text)))
		assert.Equal(t, k.Hash(c[0], c[1]), want, "Hash(%q, %q)", c[0], c[1])
	}
}

func TestSeal_MatchesReferenceGCM(t *testing.T) {
	secret := ascendingBytes(0x40, KeySize)
	block := require.Value(aes.NewCipher(referenceDerive(secret, "qrjump seal v1")))(t)
	gcm, err := cipher.NewGCM(block) // takes the nonce from the caller, as the published vectors do
	require.NoError(t, err)
	k := newKey(t, secret)
	raw := require.Value(encoding.DecodeString(k.Seal("row/1", []byte("hello"))))(t)
	got := require.Value(gcm.Open(nil, raw[:12], raw[12:], []byte("row/1")))(t)
	wantBytes(t, "plain text of Seal's output", got, []byte("hello"))
	nonce := ascendingBytes(7, 12)
	got = require.Value(k.Open("row/2", encoding.EncodeToString(gcm.Seal(nonce, nonce, []byte("world"), []byte("row/2")))))(t)
	wantBytes(t, "Open", got, []byte("world"))
}

// TestOpen_GCMVectors verifies Open on cases 13 to 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), the AES-256 vectors that
// were submitted to NIST for SP 800-38D.
func TestOpen_GCMVectors(t *testing.T) {
	const (
		plain  = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
		sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
		nonce  = "cafebabefacedbaddecaf888"
		key    = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
	)
	for _, v := range []struct{ name, key, nonce, plain, place, sealed, tag string }{
		{"case 13", strings.Repeat("0", 64), strings.Repeat("0", 24), "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"case 14", strings.Repeat("0", 64), strings.Repeat("0", 24), strings.Repeat("0", 32), "", "cea7403d4d606b6e074ec5d3baf39d18",
			"d0d1c8a799996bf0265b98b5d48ab919"},
		{"case 15", key, nonce, plain, "", sealed, "b094dac5d93471bdec1a502270e3cc6c"},
		{"case 16", key, nonce, plain[:120], "feedfacedeadbeeffeedfacedeadbeefabaddad2", sealed[:120], "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		t.Run(v.name, func(t *testing.T) {
			block := require.Value(aes.NewCipher(decodeHex(t, v.key)))(t)
			aead, err := cipher.NewGCMWithRandomNonce(block) // as in NewKey
			require.NoError(t, err)
			k := &Key{aead: aead}
			got := require.Value(k.Open(string(decodeHex(t, v.place)), encoding.EncodeToString(decodeHex(t, v.nonce+v.sealed+v.tag))))(t)
			wantBytes(t, "plain text", got, decodeHex(t, v.plain))
		})
	}
}

func TestOpen_RejectsTamperedText(t *testing.T) {
	k := newKey(t, ascendingBytes(1, KeySize))
	const place = "accounts/marketcode_key/wxa"
	wantRejected := func(name, place, sealed string) {
		t.Helper()
		got, err := k.Open(place, sealed)
		assert.True(t, errors.Is(err, ErrSealed) && got == nil, "%s: Open = %q, %v, want ErrSealed", name, got, err)
	}
	for _, secret := range []string{"", "a", "ab", "0123456789abcdef", strings.Repeat("long ", 100)} {
		sealed := k.Seal(place, []byte(secret))
		got, err := k.Open(place, sealed)
		require.True(t, err == nil && string(got) == secret, "Open = %q, %v, want %q", got, err, secret)
		// Each bit of nonce, text and tag.
		raw := require.Value(encoding.DecodeString(sealed))(t)
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				wantRejected("bit "+strconv.Itoa(bit)+" of byte "+strconv.Itoa(i), place, encoding.EncodeToString(raw))
				raw[i] ^= 1 << bit
			}
		}
		// Each character of the stored text, replaced by any other.
		for i := range sealed {
			for c := range 256 {
				if byte(c) != sealed[i] {
					wantRejected("character "+strconv.Itoa(i), place, sealed[:i]+string([]byte{byte(c)})+sealed[i+1:])
				}
			}
		}
		for i := range sealed {
			wantRejected("prefix of length "+strconv.Itoa(i), place, sealed[:i])
		}
		for i := range place {
			wantRejected("another place", place[:i]+"#"+place[i+1:], sealed)
		}
		wantRejected("a longer place", place+" ", sealed)
		wantRejected("no place", "", sealed)
		wantRejected("an additional character", place, sealed+"A")
		wantRejected("padding", place, sealed+"=")
	}
	assert.ErrorIs(t, assert.ErrorOf(newKey(t, ascendingBytes(2, KeySize)).Open(place, k.Seal(place, []byte("x")))), ErrSealed,
		"Open with another key")
}

func TestSeal_RandomNonce(t *testing.T) {
	k := newKey(t, ascendingBytes(1, KeySize))
	seen := map[string]bool{}
	for range 1000 {
		nonce := k.Seal("p", []byte("secret"))[:16]
		require.True(t, !seen[nonce], "Seal repeats the nonce %s", nonce)
		seen[nonce] = true
	}
}

func TestKeyHash_DistinctInputs(t *testing.T) {
	k, other := newKey(t, ascendingBytes(1, KeySize)), newKey(t, ascendingBytes(2, KeySize))
	seen := map[string]string{}
	for name, h := range map[string]string{
		"base":                   k.Hash("a", "bc"),
		"a moved boundary":       k.Hash("ab", "c"),
		"all in the purpose":     k.Hash("abc", ""),
		"all in the secret":      k.Hash("", "abc"),
		"a boundary in the text": k.Hash("", "1:abc"),
		"another key":            other.Hash("a", "bc"),
		"another letter's case":  k.Hash("a", "bC"),
	} {
		twin, ok := seen[h]
		assert.True(t, !ok, "%s and %s have the same hash", name, twin)
		seen[h] = name
		assert.True(t, len(h) == 64, "%s: hash %q, want 64 characters", name, h)
	}
}

func TestMatches_ExactSecret(t *testing.T) {
	k := newKey(t, ascendingBytes(1, KeySize))
	hash := k.Hash("p", "secret")
	for _, c := range []struct {
		name, purpose, secret, hash string
		want                        bool
	}{
		{"the secret", "p", "secret", hash, true},
		{"another secret", "p", "Secret", hash, false},
		{"another purpose", "P", "secret", hash, false},
		{"no secret", "p", "", hash, false},
		{"no hash", "p", "secret", "", false},
		{"nothing at all", "", "", "", false},
		{"a part of the hash", "p", "secret", hash[:63], false},
		{"the hash as secret", "p", hash, hash, false},
	} {
		assert.Equal(t, k.Matches(c.purpose, c.secret, c.hash), c.want, "Matches with %s", c.name)
	}
}

func TestNewKey_RequiresKeySize(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		assert.True(t, assert.ErrorOf(NewKey(make([]byte, n))) != nil, "NewKey of %d bytes succeeds, want an error", n)
	}
	secret := require.Value(NewSecret(bytes.NewReader(ascendingBytes(0, 100))))(t)
	wantBytes(t, "NewSecret", secret, ascendingBytes(0, KeySize))
	assert.True(t, assert.ErrorOf(NewSecret(bytes.NewReader(ascendingBytes(0, KeySize-1)))) != nil,
		"NewSecret with %d random bytes succeeds, want an error", KeySize-1)
}

func TestHasher_MatchesKeyHash(t *testing.T) {
	key := newKey(t, ascendingBytes(1, 32))
	h := key.Hasher("purpose")
	var hashing sync.WaitGroup
	for _, parts := range [][]string{{}, {""}, {"a"}, {"a", "b"}, {"namespace", "\x00", "user"}} {
		hashing.Go(func() {
			for range 100 {
				sum := h.Sum(parts...)
				assert.Equal(t, hex.EncodeToString(sum[:]), key.Hash("purpose", strings.Join(parts, "")), "Sum(%q)", parts)
			}
		})
	}
	hashing.Wait()
}
