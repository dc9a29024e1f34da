package people

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// The vectors of RFC 6238, appendix B, for SHA-1.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	for at, want := range map[int64]string{59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924",
		2000000000: "69279037", 20000000000: "65353130"} {
		if got := code([]byte("12345678901234567890"), at/stepTime, 8); got != want {
			t.Errorf("at %d: got %s, want %s", at, got, want)
		}
	}
}

func TestACodeIsGoodForItsMinuteAndOnce(t *testing.T) {
	secret, now := base.EncodeToString([]byte("12345678901234567890")), time.Unix(1111111111, 0)
	step := now.Unix() / stepTime
	for off, want := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		got, ok := matchCode(secret, code([]byte("12345678901234567890"), step+off, 6), now, 0)
		if ok != want || ok && got != step+off {
			t.Errorf("%d steps away: %v, step %d", off, ok, got)
		}
	}
	if _, ok := matchCode(secret, code([]byte("12345678901234567890"), step, 6), now, step); ok {
		t.Error("a code is taken twice")
	}
}

func TestAPasswordIsComparedExactly(t *testing.T) {
	ctx := context.Background()
	phc, err := hashPassword(ctx, rand.Reader, "four wild geese over Ürümqi ")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error(phc)
	}
	for given, want := range map[string]bool{"four wild geese over Ürümqi ": true, "four wild geese over Ürümqi": false, "": false,
		"Four wild geese over Ürümqi ": false, strings.Repeat("x", MostPassword+1): false} {
		if got, err := checkPassword(ctx, phc, given); err != nil || got != want {
			t.Errorf("%.30q: %v, %v", given, got, err)
		}
	}
	if got, err := checkPassword(ctx, "", ""); got || err != nil {
		t.Errorf("nobody signs in: %v, %v", got, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	if _, err := checkPassword(ended, phc, ""); err == nil {
		t.Error("a fifth hash does not wait")
	}
	defer func() {
		for range cap(hashing) {
			<-hashing
		}
	}()
	// So many wait, and the next one is told at once.
	going, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range mostWaiting + cap(hashing) {
		all.Go(func() {
			if _, err := checkPassword(going, phc, ""); !errors.Is(err, context.Canceled) {
				t.Errorf("one that waits: %v", err)
			}
		})
	}
	for waiting.Load() < mostWaiting+int32(cap(hashing)) {
		runtime.Gosched()
	}
	if _, err := checkPassword(going, phc, ""); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	stop()
	all.Wait()
	if n := waiting.Load(); n != 0 {
		t.Errorf("%d wait when all are gone", n)
	}
}

func TestPasswordsThatOthersGuessFirst(t *testing.T) {
	for given, want := range map[string]bool{
		"": true, "Short1!": true, "password1234": true, "P@ssw0rd1234": true, "123456789012": true, "qwertyuiop123": true,
		"aaaaaaaaaaaa": true, "abcabcabcabc": true, "alicealice2026": true, "letmein123456": true, "iloveyou1234": true,
		"1qaz2wsx3edc": true, "Welcome2026!!": true, "correcthorsebatterystaple": true, "987654321098": true, "abcdefghijkl": true,
		"woaini123456": true, strings.Repeat("x7Kq", 400): true,
		"four wild geese over Ürümqi": false, "k9#vTq2!mZrw": false, "我家的猫每天早上都很饿所以": false, "tpvzkqhxwbnr": false,
	} {
		if got := CheckPassword(given, "alice") != ""; got != want {
			t.Errorf("%.40q: refused %v, %d pieces", given, got, least(strings.ToLower(given), "alice"))
		}
	}
}

// ASVS 6.2.4, 6.2.9, 6.2.12: what is on the list is refused, with digits and signs around it too.
func TestPasswordsOfTheList(t *testing.T) {
	if n := len(commonest()); n < 25_000 {
		t.Fatalf("the list has %d", n)
	}
	long := 0
	for word := range commonest() {
		for _, given := range []string{word, word + "2026!!!!!!!!", "**" + strings.ToUpper(word) + "-1234567"} {
			if utf8.RuneCountInString(given) < LeastPassword || given != word && !commonest()[strings.TrimFunc(word, noLetter)] {
				continue // too short anyway, or without a core, like one of digits alone
			}
			if long++; CheckPassword(given, "alice") == "" {
				t.Fatalf("%q is taken", given)
			}
		}
	}
	if long < 40_000 {
		t.Errorf("only %d were long enough to be looked at", long)
	}
	for _, given := range []string{"four wild geese over Urumqi", "six kites of Xi'an and a drum, " + strings.Repeat("or not ", 10),
		strings.Repeat("四只大雁飞过乌鲁木齐", 30)} {
		if fault := CheckPassword(given, "alice"); fault != "" {
			t.Errorf("%.30q: %s", given, fault)
		}
	}
}
