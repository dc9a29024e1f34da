package stream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// originHeader is the header with the journal that an event came from: the fields Node, Position and Before of Origin, and the word
// "again" if Reshipped is true.
const originHeader = "Qrjump-From"

// intoHeader is the header that identifies, by its creation time, the stream for which a message was published. If the message
// arrives in a later stream, its field Before is ignored.
const intoHeader = "Qrjump-Into"

func header(o scanlog.Origin) string {
	text := fmt.Sprintf("%s %d %d", o.Node, o.Position, o.Before)
	if o.Reshipped {
		text += " again"
	}
	return text
}

// headers returns the message headers of an event for the stream dst; nil for an event without an origin.
func headers(o scanlog.Origin, dst string) nats.Header {
	if o.Node == "" {
		return nil
	}
	h := nats.Header{originHeader: []string{header(o)}}
	if dst != "" {
		h.Set(intoHeader, madeOf(dst))
	}
	return h
}

// madeOf returns the creation time contained in a stream id.
func madeOf(id string) string { return id[strings.LastIndexByte(id, ' ')+1:] }

// originOf reads the origin of a message from its headers; if the header is absent, the result is the zero value. If a message has
// no intoHeader, its field Before is used as it is.
func originOf(m jetstream.Msg, in string) (o scanlog.Origin) {
	parts := strings.Fields(m.Headers().Get(originHeader))
	if len(parts) < 3 {
		return o
	}
	var err, otherErr error
	o.Node = parts[0]
	o.Position, err = strconv.ParseInt(parts[1], 10, 64)
	o.Before, otherErr = strconv.ParseInt(parts[2], 10, 64)
	if err != nil || otherErr != nil {
		return scanlog.Origin{}
	}
	o.Reshipped = len(parts) > 3
	if dst := m.Headers().Get(intoHeader); dst != "" && dst != madeOf(in) {
		o.Before = 0
	}
	return o
}
