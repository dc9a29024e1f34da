package api

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// envelope holds the fields with which every answer but a token's begins. Contract: rules 0.
type envelope struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}

// success is the envelope of a call that worked.
var success = envelope{ErrMsg: errcode.OK.Text}

// encodeReply writes the answer of a call, or its error with the request id.
// The detail of an error stays inside, and is found by the request id; only the
// code family shows it.
func (a *API) encodeReply(e endpoint, c *call, reply any, code *errcode.Code, detail string) []byte {
	if code.Number != errcode.OK.Number {
		reply = envelope{ErrCode: code.Number, ErrMsg: a.errorText(e, c, code, detail)}
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(reply); err != nil {
		panic(fmt.Errorf("answer %T: %w", reply, err)) // a type of this package cannot fail
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if e.needs&slashes != 0 && code.Number == errcode.OK.Number {
		body = bytes.ReplaceAll(body, []byte("/"), []byte(`\/`)) // Observed(wire.answer.slash): JSON has a slash in texts alone
	}
	return body
}

// errorText returns the text of an error, as the platform's was on the day that the server is told.
func (a *API) errorText(e endpoint, c *call, code *errcode.Code, detail string) string {
	day := a.Settings.Get().AsOf
	next := func(row behaviour.Row) bool {
		if !row.IsFormer(day) {
			return false
		}
		c.notes.Add(row)
		return true
	}
	text, hint, hintAlone := code.Text, "", next(behaviour.WireAnswerHintAlone)
	if e.hints() && (code == errcode.InvalidArgs || slices.Contains(errcode.OfCodes, code)) {
		if code == errcode.InvalidArgs && detail != "" {
			text += ", " + detail + "..."
		} else {
			text += ", ..."
		}
		if !hintAlone {
			hint = " " + a.hint()
		}
	}
	switch {
	case (code == errcode.ICPFailed || code == errcode.PublishQuota) && next(behaviour.WireAnswerTextless):
		text = ""
	case e.advises(code) && !next(behaviour.WireAnswerUnadvised):
		text += errcode.StableTokenAdvice
	}
	if strings.HasPrefix(e.path, "/sns/") {
		text += "," // Observed(wire.answer.comma)
	}
	if hintAlone {
		prev, address, addressed := strings.Cut(text, " requestIP: ")
		if text = prev + " " + a.hintAlone(); addressed {
			text += " requestIP: " + address
		}
		return text
	}
	return text + hint + " rid: " + c.rid // Observed(wire.answer.rid): one space stands before it.
}

// newRID makes the request id of a call at a time: its second and 64 random bits.
// Inferred(wire.answer.rid_time): eight live ones fit. Contract: rules 0.
func (a *API) newRID(t time.Time) string { return NewRID(a.Random, t) }

// NewRID makes the request id of a moment.
func NewRID(random io.Reader, now time.Time) string {
	var raw [8]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		panic(fmt.Errorf("drawing a request id: %w", err))
	}
	var second [4]byte
	binary.BigEndian.PutUint32(second[:], uint32(now.Unix()))
	rid := make([]byte, 0, 26)
	rid = append(hex.AppendEncode(rid, second[:]), '-')
	rid = append(hex.AppendEncode(rid, raw[:4]), '-')
	return string(hex.AppendEncode(rid, raw[4:]))
}

// advises reports whether an error sends the caller to stable_token: those that say that a token is of no use or too many were
// fetched, on the calls that take or make one. Contract: rules 3.6. Observed(wire.answer.advice). Assumed(wire.answer.no_advice):
// not on the other calls with a secret, where the caller could not follow it.
func (e endpoint) advises(code *errcode.Code) bool {
	return (code == errcode.InvalidCredential || code == errcode.DailyLimit) &&
		(e.needs&(token|platform) != 0 || e.path == "/cgi-bin/token")
}

// hints reports whether errors of the endpoint carry a detail and a hint.
// Contract: marketcode 1.1.
func (e endpoint) hints() bool { return strings.HasPrefix(e.path, "/intp/marketcode/") }

// hint returns the text that the code family puts before the request id: random letters and the time at the platform.
// Observed(wire.answer.hint). Contract: marketcode 1.1.
func (a *API) hint() string {
	var raw [8]byte
	if _, err := io.ReadFull(a.Random, raw[:]); err != nil {
		panic(fmt.Errorf("drawing a hint: %w", err))
	}
	token := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])
	return fmt.Sprintf("hint: [%s][%s]", token, a.Now().In(time.FixedZone("", 8*3600)).Format(time.DateTime))
}

// hintAlone returns the text that took the place of the request id: random letters and digits.
func (a *API) hintAlone() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var raw [10]byte
	if _, err := io.ReadFull(a.Random, raw[:]); err != nil {
		panic(fmt.Errorf("drawing a hint: %w", err))
	}
	for i := range raw[:6] {
		raw[i] = letters[int(raw[i])%len(letters)]
	}
	return fmt.Sprintf("hint: [%s%08d]", raw[:6], binary.BigEndian.Uint32(raw[6:])%1e8)
}
