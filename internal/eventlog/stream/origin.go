package stream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// originHeader says from which journal an event came: the fields node, position and before of
// Origin, and the word "again" where Again is true.
const originHeader = "Qrjump-From"

// intoHeader says for which stream a message was meant, by when that stream was made. The message
// may arrive in a later stream; there its field Before means nothing.
const intoHeader = "Qrjump-Into"

func header(o scanlog.Origin) string {
	text := fmt.Sprintf("%s %d %d", o.Node, o.Position, o.Before)
	if o.Reshipped {
		text += " again"
	}
	return text
}

// headers returns the headers of an event for a stream; nil for an event without an origin.
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

// madeOf returns the creation time of the stream with an id.
func madeOf(id string) string { return id[strings.LastIndexByte(id, ' ')+1:] }

// originOf reads the origin of a message from its headers; the zero value where there are none. Of
// a message that names no stream, Before is taken as it is.
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
