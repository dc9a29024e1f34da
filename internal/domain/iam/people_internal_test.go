package iam

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestTOTP_RFC6238Vectors verifies the vectors of RFC 6238, appendix B, for SHA-1.
func TestTOTP_RFC6238Vectors(t *testing.T) {
	for seconds, want := range map[int64]string{59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924",
		2000000000: "69279037", 20000000000: "65353130"} {
		assert.Equal(t, code([]byte("12345678901234567890"), seconds/stepTime, 8), want, "code at %d", seconds)
	}
}

func TestTOTP_WindowAndSingleUse(t *testing.T) {
	secret, now := base.EncodeToString([]byte("12345678901234567890")), time.Unix(1111111111, 0)
	step := now.Unix() / stepTime
	for offset, want := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		got, ok := matchCode(secret, code([]byte("12345678901234567890"), step+offset, 6), now, 0)
		assert.True(t, ok == want && (!ok || got == step+offset), "code %d steps away: %v, step %d, want %v", offset, ok, got, want)
	}
	_, ok := matchCode(secret, code([]byte("12345678901234567890"), step, 6), now, step)
	assert.True(t, !ok, "a code was accepted twice, want once")
}

func TestPassword_ExactComparison(t *testing.T) {
	ctx := context.Background()
	d := &Service{Random: rand.Reader}
	phc := require.Value(d.hashPassword(ctx, "four wild geese over Ürümqi "))(t)
	assert.True(t, strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$"), "hashPassword = %v, want argon2id", phc)
	for given, want := range map[string]bool{"four wild geese over Ürümqi ": true, "four wild geese over Ürümqi": false, "": false,
		"Four wild geese over Ürümqi ": false, strings.Repeat("x", MaxPassword+1): false} {
		got, err := d.checkPassword(ctx, phc, given)
		assert.True(t, err == nil && got == want, "checkPassword(%.30q) = %v, %v, want %v", given, got, err, want)
	}
	got, err := d.checkPassword(ctx, "", "")
	assert.True(t, !got && err == nil, "checkPassword without a hash = %v, %v, want false", got, err)
}

// TestPasswordHash_SemaphorePerService verifies that the limit of concurrent hashes is per Service: servers in one process are independent.
func TestPasswordHash_SemaphorePerService(t *testing.T) {
	t.Parallel()
	d := &Service{Random: rand.Reader}
	for range hashedAtOnce {
		require.NoError(t, assert.ErrorOf(d.hashing.Acquire(t.Context(), hashedAtOnce, maxWaiting)))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, assert.ErrorOf(d.checkPassword(canceled, "", "")), context.Canceled, "checkPassword without a free slot")
	// maxWaiting calls wait; the next one fails immediately.
	ctx, stop := context.WithCancel(t.Context())
	results := make(chan error)
	for range maxWaiting + 1 {
		go func() { results <- assert.ErrorOf(d.checkPassword(ctx, "", "")) }()
	}
	assert.ErrorIs(t, (<-results), ErrBusy, "checkPassword with a full queue")
	assert.NoErrorf(t, assert.ErrorOf(new(Service).checkPassword(t.Context(), "", "")), "checkPassword of another Service")
	stop()
	for range maxWaiting {
		assert.ErrorIs(t, (<-results), context.Canceled, "waiting checkPassword after cancel")
	}
}

func TestPassword_CommonVariants(t *testing.T) {
	for given, want := range map[string]bool{
		"": true, "Short1!": true, "password1234": true, "P@ssw0rd1234": true, "123456789012": true, "qwertyuiop123": true,
		"aaaaaaaaaaaa": true, "abcabcabcabc": true, "alicealice2026": true, "letmein123456": true, "iloveyou1234": true,
		"1qaz2wsx3edc": true, "Welcome2026!!": true, "correcthorsebatterystaple": true, "987654321098": true, "abcdefghijkl": true,
		"woaini123456": true, strings.Repeat("x7Kq", 400): true,
		"four wild geese over Ürümqi": false, "k9#vTq2!mZrw": false, "我家的猫每天早上都很饿所以": false, "tpvzkqhxwbnr": false,
	} {
		if got := CheckPassword(given, "alice") != nil; got != want {
			t.Errorf("CheckPassword(%.40q) rejects: %v, want %v; minimum length %d", given, got, want,
				minimumLength(strings.ToLower(given), "alice"))
		}
	}
}

// TestPassword_CommonListRejected verifies that passwords of the list are rejected, also with digits and symbols around them. ASVS 6.2.4,
// 6.2.9, 6.2.12.
func TestPassword_CommonListRejected(t *testing.T) {
	n := len(commonest())
	require.True(t, n >= 25_000, "the list has %d passwords, want at least 25000", n)
	long := 0
	for word := range commonest() {
		for _, given := range []string{word, word + "2026!!!!!!!!", "**" + strings.ToUpper(word) + "-1234567"} {
			if utf8.RuneCountInString(given) < MinPassword || given != word && !commonest()[strings.TrimFunc(word, noLetter)] {
				continue // too short, or without letters at its core
			}
			long++
			require.True(t, CheckPassword(given, "alice") != nil, "CheckPassword accepted %q, want an error", given)
		}
	}
	assert.True(t, long >= 40_000, "%d passwords were long enough, want at least 40000", long)
	for _, given := range []string{"four wild geese over Urumqi", "six kites of Xi'an and a drum, " + strings.Repeat("or not ", 10),
		strings.Repeat("四只大雁飞过乌鲁木齐", 30)} {
		assert.Equal(t, CheckPassword(given, "alice"), nil, "CheckPassword(%.30q)", given)
	}
}
