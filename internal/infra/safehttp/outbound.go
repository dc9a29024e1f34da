// Package safehttp sends HTTP requests to URLs from untrusted sources without reaching forbidden addresses (SSRF protection).
//
// Every outbound request of the server passes through [Client.Do]. Do accepts http and https on ports 80 and 443, looks up the host
// once, rejects the whole DNS response if one address is in a special-purpose block, and dials exactly the checked address. Do
// follows no redirects, uses no proxy, keeps no connection, and limits time, header and body.
//
// The package is independent of the purpose of a request: comparing a file, signing an event and retrying are left to the caller.
package safehttp

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

const (
	defaultTimeout = 3 * time.Second
	defaultMaxBody = 64 << 10

	perAddressTimeout = time.Second
	maxURL            = 2048
	maxHeader         = 16 << 10 // limit for the response header, including interim responses

	// Some firewalls reject requests with no User-Agent, or with one that does not look like a browser's.
	defaultUserAgent = "Mozilla/5.0 (compatible; qrjump)"
)

// Client sends requests to addresses from untrusted sources. The zero value reaches only public addresses. Client is safe for
// concurrent use.
type Client struct {
	// Resolver resolves names, once per request. Nil means net.DefaultResolver.
	Resolver Resolver

	// Dial opens the connection; the address is always a checked literal ip:port. Nil means a net.Dialer that checks the address
	// again before it connects.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// AllowPrivate also allows private and loopback addresses, IP addresses as hosts, host names without a dot, and all ports.
	// Link-local and cloud metadata addresses remain forbidden.
	AllowPrivate bool

	// Patience is an upper limit for the timeout of every request; 0 = only the request's own timeout.
	Patience time.Duration

	RootCAs   *x509.CertPool   // nil means the system's root certificates
	Now       func() time.Time // time source for steps; nil means time.Now
	UserAgent string           // empty means the default User-Agent
}

// Resolver is the part of net.Resolver that the client needs. LookupNetIP must return when its context is done.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Request is one HTTP request and the limits for its response.
type Request struct {
	Method  string // GET, HEAD or POST; empty means GET
	URL     string
	Header  http.Header // Host, Connection, Content-Length and similar headers are set by the client
	Body    []byte
	Timeout time.Duration // timeout for the whole request, from the DNS lookup to the last byte; default 3 s
	MaxBody int           // maximum response body in bytes; a longer response is an error; default 64 KiB
}

// Answer is the server's response. Its status is any status except a redirect, for which Do returns an error.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Step is one line of a request's progress, for diagnosis by an operator. Action is url, resolve, address, connect, tls, send,
// answer or body. Detail is a printable line of limited length; it never contains the URL's query.
type Step struct {
	OccurredAt time.Time `json:"occurred_at"`
	Action     string    `json:"action"`
	Detail     string    `json:"detail"`
	Failed     bool      `json:"failed,omitempty"`
}

// Reason is a stable identifier for the cause of a failed request.
type Reason string

const (
	BadURL         Reason = "bad_url"         // not a permitted http or https URL
	BadRequest     Reason = "bad_request"     // a method that is not supported
	PortRefused    Reason = "port_refused"    // a port other than 80 and 443
	NotResolved    Reason = "not_resolved"    // the name did not resolve
	AddressRefused Reason = "address_refused" // an address is in a special-purpose block, or the host is an IP address
	ConnectFailed  Reason = "connect_failed"  // no address accepted the connection
	TLSFailed      Reason = "tls_failed"      // handshake or certificate
	SendFailed     Reason = "send_failed"     // connection lost during sending
	Redirected     Reason = "redirect"        // any 3xx
	HeaderTooLong  Reason = "header_too_long" // a response header longer than 16 KiB
	Encoded        Reason = "encoded"         // a Content-Encoding that was not requested
	BodyTooLong    Reason = "body_too_long"   // more than Request.MaxBody
	ReadFailed     Reason = "read_failed"     // connection lost during reading, or not HTTP
	TimedOut       Reason = "timeout"         // Request.Timeout or the caller's deadline has passed
	Canceled       Reason = "canceled"        // the caller cancelled the context
)

// Error is the error type of [Client.Do].
type Error struct {
	Reason Reason
	Detail string
	cause  error
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// Unwrap returns the network error; nil if this package rejected the request.
func (e *Error) Unwrap() error { return e.cause }

// Do sends one request. Every error is an *[Error]. The steps describe the progress; after an error, the last step is the step that
// failed. If an error occurs after the response header, the returned Answer contains only the status.
func (c *Client) Do(ctx context.Context, req Request) (Answer, []Step, error) {
	t := trip{client: c}
	answer, err := t.run(ctx, req)
	return answer, t.steps, err
}

// trip holds the client and the steps of one call of Do.
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
	// The TCP connection is closed instead of the TLS connection: the TLS closing alert may block for seconds if the peer has
	// stopped reading.
	defer conn.Close()

	// A single deadline applies to all further reads and writes on the connection. When ctx ends, a read in progress fails
	// immediately, even if the peer keeps sending single bytes.
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

// pass records a successful step.
func (t *trip) pass(did, format string, args ...any) {
	t.record(Step{Action: did, Detail: oneLine(fmt.Sprintf(format, args...))})
}

// refuse records a step that this package rejects.
func (t *trip) refuse(did string, reason Reason, format string, args ...any) error {
	return t.end(did, &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)})
}

// lose records a step that failed because of the network. If ctx has ended, the reason is the timeout or the cancellation, whatever
// the network error says.
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
	t.record(Step{Action: did, Detail: err.Detail, Failed: true})
	return err
}

func (t *trip) record(s Step) {
	now := t.client.Now
	if now == nil {
		now = time.Now
	}
	s.OccurredAt = now()
	t.steps = append(t.steps, s)
}

const maxLine = 300 // maximum number of runes in a detail

// oneLine makes untrusted text safe for one line of a log or page: printable, of limited length, without line breaks and
// bidirectional control characters.
func oneLine(s string) string {
	line := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s))
	if len(line) > maxLine {
		return string(line[:maxLine]) + "..."
	}
	return string(line)
}
