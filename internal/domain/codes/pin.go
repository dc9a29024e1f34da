package codes

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/sealer"
)

const (
	// minPIN and maxPIN limit the number of digits of a PIN.
	minPIN, maxPIN = 4, 8
	// MaxWrongPINs is the number of wrong PINs after which no PIN of the code is compared any more.
	MaxWrongPINs = 5
)

// PINDigits returns the number of digits of the PINs that are printed beside the texts of the batch; 0 = the codes have no PIN.
func (b Batch) PINDigits() int {
	if !strings.Contains(b.Template, "{digits:") {
		return 0
	}
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return 0
	}
	return t.pin
}

// HasPublicTexts reports whether the texts of the batch contain no secret, so that only the serial number identifies a code.
func (b Batch) HasPublicTexts() bool {
	if b.PINDigits() == 0 {
		return false
	}
	t, err := ParseTemplate(b.Template)
	return err == nil && t.parts[t.secret].field == serialField
}

// PINs returns the function that computes the digits under the scratch layer of a code: a keyed hash of the counter of the code. nil = the
// codes of the batch have no PIN.
func PINs(key *sealer.Key, b Batch) func(index uint64) string {
	n := b.PINDigits()
	if n == 0 {
		return nil
	}
	return func(index uint64) string {
		sum, err := strconv.ParseUint(key.Hash("code pin", strconv.FormatUint(b.Start+index, 10))[:16], 16, 64)
		if err != nil {
			panic(err) // a hash consists of hexadecimal digits
		}
		return fmt.Sprintf("%0*d", n, sum%pow10(n))
	}
}

// PINResult is the result of a PIN that a buyer typed.
type PINResult string

// The results of PINCheck.
const (
	RightPIN     PINResult = "right"
	WrongPIN     PINResult = "wrong"
	NoPIN        PINResult = "none"    // the text is no PIN of the batch, so it is not compared
	PINExhausted PINResult = "refused" // the code has MaxWrongPINs wrong PINs, so no PIN is compared any more
)

// PINCheck compares PINs that buyers type into the pages of codes.
type PINCheck struct{ *Service }

// Check compares a text that a buyer typed with the PIN of a code; "" = none, to learn if the code still accepts a PIN. Each wrong PIN is
// stored as an event of the code under the lock of the batch, so all nodes together compare at most MaxWrongPINs wrong PINs of a code.
func (s PINCheck) Check(ctx context.Context, b Batch, index int64, typed string) (result PINResult, err error) {
	typed = strings.Map(func(r rune) rune {
		switch {
		case '０' <= r && r <= '９': // digits of a Chinese keyboard
			return r - '０' + '0'
		case r == ' ' || r == '-':
			return -1
		}
		return r
	}, typed)
	ctx = accounts.WithActor(ctx, accounts.Actor{ActorID: "buyer"})
	n := b.PINDigits()
	isPIN := n > 0 && len(typed) == n && allOf(typed, Alphabet[:10])
	check := func(tx Tx, b Batch, t time.Time) error {
		wrong := 0
		err := publicPageLimits.eventsOf(ctx, tx, b.ID, index, func(e Event) bool {
			if e.Action == EnterWrongPIN {
				wrong++
			}
			return wrong < MaxWrongPINs
		})
		switch {
		case err != nil:
			return err
		case wrong == MaxWrongPINs:
			result = PINExhausted
		case !isPIN:
			result = NoPIN
		case subtle.ConstantTimeCompare([]byte(typed), []byte(PINs(s.Vault, b)(uint64(index)))) == 1:
			result = RightPIN
		}
		if result != "" {
			return nil
		}
		if result = WrongPIN; wrong == MaxWrongPINs-1 {
			result = PINExhausted
		}
		_, err = tx.AddEvent(ctx, Event{Batch: b.ID, Action: EnterWrongPIN, Codes: NewSet(Range{index, index}), OccurredAt: t, From: t})
		return err
	}
	if isPIN {
		err = s.inBatch(ctx, b.ID, check)
	} else {
		err = s.Store.ViewCodes(ctx, func(tx Tx) error { return check(tx, b, time.Time{}) })
	}
	return result, err
}
