package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/internal/errcode"
)

// envelope is what every answer but a token's begins with. Contract: rules 0.
type envelope struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}

// success is the envelope of a call that worked.
var success = envelope{ErrMsg: errcode.OK.Text}

// encodeReply writes the answer of a call, or its error with the request id.
// The detail of an error stays inside: it is found by the request id.
func encodeReply(reply any, code *errcode.Code, rid string) []byte {
	if code.Number != errcode.OK.Number {
		reply = envelope{ErrCode: code.Number, ErrMsg: code.Text + " rid: " + rid}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(reply); err != nil {
		panic(fmt.Errorf("answer %T: %w", reply, err)) // a type of this package cannot fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// newRID makes a request id: the second of the call and 64 random bits.
// Contract: rules 0.
func (a *API) newRID() string {
	var raw [8]byte
	if _, err := io.ReadFull(a.Random, raw[:]); err != nil {
		panic(fmt.Errorf("drawing a request id: %w", err))
	}
	return fmt.Sprintf("%08x-%08x-%08x", uint32(a.Now().Unix()), binary.BigEndian.Uint32(raw[:4]), binary.BigEndian.Uint32(raw[4:]))
}
