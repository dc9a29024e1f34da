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

// envelope contains the fields at the start of every response except token responses. Contract: rules §0.
type envelope struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}

// success is the envelope of a successful call.
var success = envelope{ErrMsg: errcode.OK.Text}

// encodeReply encodes the response of a call, or its error with the request id. Only the endpoints for codes include the detail of an error
// in the response; for all other endpoints the detail is available only through the request id.
func (a *API) encodeReply(e endpoint, c *call, reply any, code *errcode.Code, detail string) []byte {
	if code.Number != errcode.OK.Number {
		reply = envelope{ErrCode: code.Number, ErrMsg: a.errorText(e, c, code, detail)}
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(reply); err != nil {
		panic(fmt.Errorf("answer %T: %w", reply, err)) // encoding a reply type of this package cannot fail
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if e.needs&escapedSlashes != 0 && code.Number == errcode.OK.Number {
		body = bytes.ReplaceAll(body, []byte("/"), []byte(`\/`)) // Observed(wire.answer.slash): in JSON a slash occurs only inside strings
	}
	return body
}

// errorText returns the text of an error in the wording that the platform used on the date set in the settings.
func (a *API) errorText(e endpoint, c *call, code *errcode.Code, detail string) string {
	day := a.Settings.Get().AsOf
	isFormer := func(row behaviour.Row) bool {
		if !row.IsFormer(day) {
			return false
		}
		c.notes.Add(row)
		return true
	}
	text, hint, isFormerHint := code.Text, "", isFormer(behaviour.WireAnswerHintAlone)
	if strings.HasPrefix(e.path, "/intp/marketcode/") && (code == errcode.InvalidArgs || slices.Contains(errcode.OfCodes, code)) {
		if code == errcode.InvalidArgs && detail != "" {
			text += ", " + detail + "..."
		} else {
			text += ", ..."
		}
		if !isFormerHint {
			hint = " " + a.hint()
		}
	}
	switch {
	case (code == errcode.ICPFailed || code == errcode.PublishQuota) && isFormer(behaviour.WireAnswerTextless):
		text = ""
	case e.advisesStableToken(code) && !isFormer(behaviour.WireAnswerUnadvised):
		text += errcode.StableTokenAdvice
	}
	if c.underSNS {
		text += "," // Observed(wire.answer.comma)
	}
	if isFormerHint {
		prev, address, hasAddress := strings.Cut(text, " requestIP: ")
		text = prev + " " + a.formerHint()
		if hasAddress {
			text += " requestIP: " + address
		}
		return text
	}
	return text + hint + " rid: " + c.rid // Observed(wire.answer.rid): "rid:" follows a single space.
}

// NewRID returns a request id for a call at time now.
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

// advisesStableToken reports whether the message of an error recommends stable_token. Only errors for an invalid token or the daily limit
// recommend it, in calls that use or issue a token. Contract: rules §3.6. Observed(wire.answer.advice). Assumed(wire.answer.no_advice): of
// the calls with a secret instead of a token, only /cgi-bin/token recommends stable_token.
func (e endpoint) advisesStableToken(code *errcode.Code) bool {
	return (code == errcode.InvalidCredential || code == errcode.DailyLimit) &&
		(e.needs&(token|platform) != 0 || e.path == "/cgi-bin/token")
}

// hint returns the text before the request id in error messages of the endpoints for codes: random letters and the time in China.
// Observed(wire.answer.hint). Contract: marketcode §1.1.
func (a *API) hint() string {
	var raw [8]byte
	if _, err := io.ReadFull(a.Random, raw[:]); err != nil {
		panic(fmt.Errorf("drawing a hint: %w", err))
	}
	token := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])
	return fmt.Sprintf("hint: [%s][%s]", token, a.Now().In(time.FixedZone("", 8*3600)).Format(time.DateTime))
}

// formerHint returns the text that former error messages contain instead of the request id: random letters and digits.
func (a *API) formerHint() string {
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
