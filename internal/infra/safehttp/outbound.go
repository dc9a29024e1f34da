// Package safehttp knows how to send an HTTP request to an address that a
// stranger chose without being sent where the stranger may not go.
//
// Every outbound request of the server passes through [Client.Do]. It accepts
// http and https on ports 80 and 443, looks the host up once, refuses the whole
// answer when one address lies in a special-purpose block, and dials exactly
// the address it has checked. It follows no redirect, uses no proxy, keeps no
// connection, and bounds time, header and body.
//
// It does not know what is fetched or why: comparing a file, signing an event
// and trying again are matters of the caller.
package safehttp

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	defaultTimeout = 3 * time.Second
	defaultMaxBody = 64 << 10

	perAddressTimeout = time.Second
	maxURL            = 2048
	maxHeader         = 16 << 10 // of the answer, interim answers included

	// Some firewalls turn requests away that have no User-Agent, or one that
	// does not look like a browser's.
	defaultUserAgent = "Mozilla/5.0 (compatible; qrjump)"
)

// Client sends requests to addresses that strangers chose. Its zero value
// reaches public addresses only. It may be used by many goroutines at once.
type Client struct {
	// Resolver looks names up, once a request. Nil means net.DefaultResolver.
	Resolver Resolver

	// Dial opens the connection; the address is always a literal ip:port that
	// was checked. Nil means a net.Dialer that checks once more before it
	// connects.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// AllowPrivate opens private and loopback addresses, addresses as hosts,
	// host names without a dot, and all ports. Link-local and cloud metadata
	// addresses stay closed.
	AllowPrivate bool

	// Patience is the maximum duration of a request, whatever its own limit; 0 = its own.
	Patience time.Duration

	RootCAs   *x509.CertPool   // nil means those of the system
	Now       func() time.Time // for the steps; nil means time.Now
	UserAgent string           // empty means a default
}

// Resolver is the part of net.Resolver that the client needs. LookupNetIP must return when its context is done.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Request is one request and the bounds of its answer.
type Request struct {
	Method  string // GET, HEAD or POST; empty means GET
	URL     string
	Header  http.Header // Host, Connection, Content-Length and the like are ours
	Body    []byte
	Timeout time.Duration // of everything, from the lookup to the last byte; default 3 s
	MaxBody int           // in bytes; a longer answer is an error; default 64 KiB
}

// Answer is the response of the other side, whatever its status, except that a redirect is an error.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Step is one line of what happened, for an operator who asks why. Did is one
// of url, resolve, address, connect, tls, send, answer, body. Detail is a
// single printable line of bounded length; it never holds the query of the URL.
type Step struct {
	At     time.Time `json:"at"`
	Did    string    `json:"did"`
	Detail string    `json:"detail"`
	Failed bool      `json:"failed,omitempty"`
}

// Reason says in one stable word why a request gave no answer.
type Reason string

const (
	BadURL         Reason = "bad_url"         // not an http or https URL that we would send
	BadRequest     Reason = "bad_request"     // a method that we do not send
	PortRefused    Reason = "port_refused"    // a port other than 80 and 443
	NotResolved    Reason = "not_resolved"    // the name has no address
	AddressRefused Reason = "address_refused" // an address is special, or stands in place of a name
	ConnectFailed  Reason = "connect_failed"  // no address accepted the connection
	TLSFailed      Reason = "tls_failed"      // handshake or certificate
	SendFailed     Reason = "send_failed"     // connection lost while sending
	Redirected     Reason = "redirect"        // any 3xx
	HeaderTooLong  Reason = "header_too_long" // more than 16 KiB
	Encoded        Reason = "encoded"         // a Content-Encoding that was not asked for
	BodyTooLong    Reason = "body_too_long"   // more than Request.MaxBody
	ReadFailed     Reason = "read_failed"     // connection lost while reading, or not HTTP
	TimedOut       Reason = "timeout"         // Request.Timeout or the caller's deadline
	Canceled       Reason = "canceled"        // the caller gave up
)

// Error is the error of [Client.Do].
type Error struct {
	Reason Reason
	Detail string
	cause  error
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// Unwrap returns what the network said, or nil when the refusal is our own.
func (e *Error) Unwrap() error { return e.cause }

// Do sends one request. Every error is an *[Error]. The steps tell what
// happened, also when there is an error; the last one is then the failed one.
// After an error behind an answer's header the answer holds its status alone.
func (c *Client) Do(ctx context.Context, req Request) (Answer, []Step, error) {
	t := trip{client: c}
	answer, err := t.run(ctx, req)
	return answer, t.steps, err
}

// trip is one call of Do: the client it belongs to, and what happened so far.
type trip struct {
	client *Client
	steps  []Step
}

func (t *trip) run(ctx context.Context, req Request) (Answer, error) {
	timeout := cmp.Or(max(req.Timeout, 0), defaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, min(timeout, cmp.Or(t.client.Patience, timeout)))
	defer cancel()

	req.Method = cmp.Or(req.Method, http.MethodGet)
	to, err := t.aim(req)
	if err != nil {
		return Answer{}, err
	}
	addrs, err := t.resolve(ctx, to)
	if err != nil {
		return Answer{}, err
	}
	conn, err := t.connect(ctx, to, addrs)
	if err != nil {
		return Answer{}, err
	}
	// The bare connection is closed, never the TLS one: saying goodbye in TLS
	// may wait seconds for a peer that has stopped reading.
	defer conn.Close()

	// One deadline for all that follows. A read in progress fails at once,
	// however regularly the peer lets a byte drip.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	stream := conn
	if to.scheme == "https" {
		if stream, err = t.secure(ctx, conn, to); err != nil {
			return Answer{}, err
		}
	}
	return t.exchange(ctx, stream, to, req)
}

// pass records a step that went well.
func (t *trip) pass(did, format string, args ...any) {
	t.record(Step{Did: did, Detail: oneLine(fmt.Sprintf(format, args...))})
}

// refuse records a step at which we stop by our own decision.
func (t *trip) refuse(did string, reason Reason, format string, args ...any) error {
	return t.end(did, &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)})
}

// lose records a step at which the network let us down. Once the time is over
// that is the reason, whatever the network calls it.
func (t *trip) lose(ctx context.Context, did string, reason Reason, cause error) error {
	switch ctx.Err() {
	case nil:
		return t.end(did, &Error{Reason: reason, Detail: cause.Error(), cause: cause})
	case context.Canceled:
		return t.end(did, &Error{Reason: Canceled, Detail: "given up by the caller", cause: ctx.Err()})
	default:
		return t.end(did, &Error{Reason: TimedOut, Detail: "the time for the whole request is over", cause: ctx.Err()})
	}
}

func (t *trip) end(did string, err *Error) error {
	err.Detail = oneLine(err.Detail)
	t.record(Step{Did: did, Detail: err.Detail, Failed: true})
	return err
}

func (t *trip) record(s Step) {
	now := t.client.Now
	if now == nil {
		now = time.Now
	}
	s.At = now()
	t.steps = append(t.steps, s)
}
