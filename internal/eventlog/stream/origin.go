package stream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// originHeader is the message header that contains the event's scanlog.Origin: the fields Node, Position and Before, and "again" if
// Reshipped is true.
const originHeader = "Qrjump-From"

// intoHeader is the header that identifies, by its creation time, the stream for which a message was published. If the message is
// stored in a stream that was created later, readers ignore the field Before of its origin.
const intoHeader = "Qrjump-Into"

// traceHeader is the header with the W3C trace context of the publication.
const traceHeader = "traceparent"

func header(o scanlog.Origin) string {
	text := fmt.Sprintf("%s %d %d", o.Node, o.Position, o.Before)
	if o.Reshipped {
		text += " again"
	}
	return text
}

// headers returns the headers of a message for the stream with the id dst; nil for an event whose origin has no node.
func headers(e *scanlog.Entry, dst string) nats.Header {
	if e.From.Node == "" {
		return nil
	}
	h := nats.Header{originHeader: []string{header(e.From)}}
	if e.Trace != "" {
		h.Set(traceHeader, e.Trace)
	}
	if dst != "" {
		h.Set(intoHeader, madeOf(dst))
	}
	return h
}

// madeOf returns the creation time contained in a stream id.
func madeOf(id string) string { return id[strings.LastIndexByte(id, ' ')+1:] }

// originOf reads the origin of an event from the headers of its message; the result is zero without a valid originHeader. The field Before
// is 0 if intoHeader identifies a stream other than the one with the id "in".
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
