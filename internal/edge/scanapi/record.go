package scanapi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// EnqueueFunc is a function that copies a scan into the queue of the scan log (package scanlog, Recorder.Enqueue) and never blocks. The
// returned Durable waits until the scan is on disk. The context has the trace context of the scan.
type EnqueueFunc func(context.Context, *scanlog.Event) (Durable, error)

// Durable is a group of events that is being written to disk.
type Durable interface {
	// Wait returns nil after the group is durable.
	Wait(ctx context.Context) error
	// OnDurable registers f, which must not block, to be called with the result of Wait; it returns false if the result is already known.
	OnDurable(f func(error)) bool
}

// ticketTimeout is the maximum time that a scan of a code waits for the database.
const ticketTimeout = 10 * time.Second

// The values of the label cause of qrjump_scan_write_failures_total.
const (
	UnrecordedFull   = "full"
	UnrecordedFailed = "failed"
)

// pendingScan contains the state of one scan while it is served: decided, passed to the ticket writer, recorded.
type pendingScan struct {
	parsedRequest
	api          *API
	namespace    string
	in           scan.Request
	decision     scan.Decision
	id           scanlog.ScanID
	event        scanlog.Event
	receipt      *codes.Pending
	group        Durable
	respondEarly bool  // the response is sent before the scan is durable, even if the scan log rejects the scan
	nonBlocking  bool  // the scan must not wait for a database, a disk or the ticket writer, see processNonBlocking
	err          error // the error that is returned instead of a decision
}

// scanPool is a pool of pendingScan values for reuse.
var scanPool = sync.Pool{New: func() any { return new(pendingScan) }}

// decide parses a request and computes its decision. decide has no side effects.
func (a *API) decide(s *pendingScan, namespace string, body []byte) error {
	q, err := readRequest(body)
	if err != nil {
		return err
	}
	if s.nonBlocking && a.mayBlock(q.text) {
		return errWouldBlock
	}
	s.parsedRequest, s.namespace = q, namespace
	if s.in, err = a.newRequest(namespace, q); err != nil {
		return err
	}
	s.decision = a.Resolver.Resolve(s.in)
	if err := s.decision.Code.Err; err != nil {
		return err
	}
	if q.replaced {
		s.decision = scan.Decision{Action: scan.ShowText, Text: s.in.Text}
	}
	s.id = a.newScanID(s.in.At)
	return nil
}

// errWouldBlock ends processNonBlocking without a response: begin must serve the scan.
var errWouldBlock = errors.New("the scan cannot be recorded synchronously")

// mayBlock reports whether a scan of a text may have to wait: for the database (Codes.Scan, Codes.Withhold, Accounts.ScannedCode), for
// the ticket writer, or for a slow disk.
func (a *API) mayBlock(text string) bool {
	_, ok := accounts.CodeOf(text)
	return ok || a.Codes != nil && a.Codes.MayBeCode(text) ||
		a.RespondEarly != nil && a.IsDiskSlow != nil && a.RespondEarly() && a.IsDiskSlow()
}

// isCode reports whether a scan matched an issued code. The nine characters of a code alone, and the texts of a batch that contain no more,
// do not count as a match, because anyone can invent them.
func (s *pendingScan) isCode() bool {
	d := &s.decision
	return d.Code.Batch.ID != 0 && d.Reason != codes.SerialOnly && !d.Code.Batch.HasPublicTexts()
}

// visit passes the scan of a code to the ticket writer, and a scan of a parametric code to its service account; the method record then
// waits for the ticket writer.
func (a *API) visit(ctx context.Context, s *pendingScan) {
	d := &s.decision
	switch {
	case s.isCode():
		visit := codes.CodeScan{Found: d.Code.Found, Scan: s.id.String(), At: s.in.At, Namespace: s.namespace}
		if s.User != "" {
			hash := a.userHash(s)
			visit.UserHash = hex.EncodeToString(hash[:])
			if d.Kind == scan.ByCode {
				visit.User = s.User
			}
		}
		s.receipt, s.err = a.TicketWriter.Enqueue(ctx, visit)
	case d.Action == scan.OpenURL && s.User != "":
		// Assumed(qrcode.event): the event is sent even if the matching rule currently opens nothing (its Mini Program has no
		// release, or the link ended), because the user then sees the account.
		openID := func(account string) string { return a.OpenIDs.OpenID(s.namespace, account, s.User) }
		s.err = a.Accounts.ScannedCode(ctx, s.in.Text, openID, s.in.At)
	}
}

// record waits for the ticket writer, then puts the scan into the queue of the scan log.
func (a *API) record(ctx context.Context, s *pendingScan) {
	if s.receipt != nil {
		_, ended := tracing.Start(ctx, tracing.Client, "store code scan")
		ticket, err := s.receipt.Wait(ctx)
		ended(err)
		if err != nil {
			s.err = err
			return
		}
		if ticket != "" {
			s.decision = s.decision.WithTicket(ticket)
		}
	}
	if a.Record == nil {
		return
	}
	s.event = a.newEvent(s)
	group, err := a.Record(ctx, &s.event)
	// If the operator chose early responses, the response is sent before the scan is durable, except while the disk is so slow that
	// a power failure would lose more than the loss window.
	s.respondEarly = !s.isCode() && a.RespondEarly != nil && a.RespondEarly()
	switch {
	case err == nil && (!s.respondEarly || !s.nonBlocking && a.IsDiskSlow != nil && a.IsDiskSlow()):
		s.group = group
	case err == nil:
	case s.respondEarly:
		a.countLost(err)
	default:
		s.err = a.logProblem(err)
	}
}

// await waits until the scan is durable, if its response requires durability.
func (a *API) await(ctx context.Context, s *pendingScan) error {
	a.wait(ctx, s)
	a.observe(s)
	return s.err
}

func (a *API) wait(ctx context.Context, s *pendingScan) {
	if s.err != nil || s.group == nil {
		return
	}
	if s.respondEarly {
		parent, cancel := context.WithTimeout(ctx, scanlog.Window)
		defer cancel()
		if err := s.group.Wait(parent); err != nil {
			a.countLost(err)
		}
	} else if err := s.group.Wait(ctx); err != nil {
		s.err = a.logProblem(err)
	}
	s.group = nil
}

func (a *API) observe(s *pendingScan) {
	if s.err == nil && a.Observe != nil {
		a.Observe(s.decision.Action)
	}
}

// logProblem returns the error response for a scan that the scan log rejected: a scan that is not durable is not acknowledged.
func (a *API) logProblem(err error) error {
	a.countLost(err)
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, scanlog.ErrFull) {
		return problem{http.StatusServiceUnavailable, "the scan log cannot keep up: try again in a moment"}
	}
	a.Log.Error("scan not written to the scan log", "error", err)
	return problem{http.StatusServiceUnavailable, "the scan log cannot be written: try again in a moment"}
}

// countLost counts a scan that the scan log rejected or could not write.
func (a *API) countLost(err error) {
	if a.Unrecorded == nil {
		return
	}
	cause := UnrecordedFailed
	if errors.Is(err, scanlog.ErrFull) {
		cause = UnrecordedFull
	}
	a.Unrecorded(cause)
}

// answer decides one scan, records the scan and appends the response.
func (a *API) answer(ctx context.Context, namespace string, body, dst []byte) ([]byte, error) {
	return a.finish(ctx, a.begin(ctx, namespace, body), dst)
}

// begin performs the first half of answer, up to the wait for the scan log; finish performs the second half. For a scan of a code,
// begin has already waited for the scan log.
func (a *API) begin(ctx context.Context, namespace string, body []byte) *pendingScan {
	s := scanPool.Get().(*pendingScan)
	s.api = a
	return a.process(ctx, s, namespace, body)
}

// processNonBlocking is like begin for a scan that needs no waiting, neither now nor before its response. For any other scan,
// processNonBlocking returns nil and has no effect.
func (a *API) processNonBlocking(ctx context.Context, namespace string, body []byte) *pendingScan {
	s := scanPool.Get().(*pendingScan)
	s.api, s.nonBlocking = a, true
	if s = a.process(ctx, s, namespace, body); s.err == errWouldBlock {
		s.release()
		return nil
	}
	return s
}

func (a *API) process(ctx context.Context, s *pendingScan, namespace string, body []byte) *pendingScan {
	if s.err = a.decide(s, namespace, body); s.err != nil {
		return s
	}
	code := s.isCode()
	if code {
		parent, cancel := context.WithTimeout(ctx, ticketTimeout)
		defer cancel()
		ctx = parent
	}
	a.visit(ctx, s)
	if s.err == nil {
		a.record(ctx, s)
	}
	if code {
		a.wait(ctx, s)
	}
	return s
}

func (a *API) finish(ctx context.Context, s *pendingScan, dst []byte) ([]byte, error) {
	defer s.release()
	if err := a.await(ctx, s); err != nil {
		return dst, a.ticketProblem(err)
	}
	return s.append(dst), nil
}

// release returns the value to the pool.
func (s *pendingScan) release() {
	*s = pendingScan{}
	scanPool.Put(s)
}

func (s *pendingScan) append(dst []byte) []byte {
	var id [32]byte
	hex.Encode(id[:], s.id[:])
	return appendDecision(dst, string(id[:]), &s.decision)
}

// ticketProblem converts an error of the ticket writer, such as an unavailable database, to a problem document.
func (a *API) ticketProblem(err error) error {
	switch {
	case errors.Is(err, codes.ErrQueueFull):
		return problem{http.StatusServiceUnavailable, "code scans cannot be stored fast enough: try again in a moment"}
	case errors.Is(err, codes.ErrUnread):
		a.Log.Error("lookup of an imported code failed", "error", err)
		return problem{http.StatusServiceUnavailable, "the code lookup failed: try again in a moment"}
	case errors.Is(err, codes.ErrScanNotWritten):
		a.Log.Error("code scan not stored", "error", err)
		return problem{http.StatusServiceUnavailable, "the scan of this code cannot be stored: try again in a moment"}
	}
	return err
}

// newEvent returns a scan as an event for the scan log.
func (a *API) newEvent(s *pendingScan) scanlog.Event {
	d := &s.decision
	e := scanlog.Event{ID: s.id, OccurredAt: s.in.At.Truncate(time.Millisecond), Source: string(s.Source), Client: cleanClient(s.Client),
		Network: network(s.IP),
		Action:  string(d.Action), Kind: string(d.Kind), Reason: string(d.Reason), App: d.AppID, Version: string(d.Version),
		RuleID: d.Matched.ID}
	if e.Source == "" {
		e.Source = string(scan.Scan)
	}
	if s.User != "" {
		e.User = a.userHash(s)
	}
	if a.Region != nil && e.Network.IsValid() {
		if address, err := netip.ParseAddr(s.IP); err == nil {
			e.Region = a.Region(address)
		}
	}
	if found := d.Code.Found; found.Batch.ID != 0 {
		e.Batch, e.Index = found.Batch.ID, found.Index
		if found.State.Activation != nil {
			e.Activation = found.State.Activation.Seq
		}
	}
	// A code text must not be stored, because each reader of the text has the code; a text that is not a link may contain anything.
	if d.Kind == scan.ByGS1 {
		e.Text = scanlog.Fit(d.Link, scanlog.MaxText)
	} else if d.Action == scan.OpenURL || d.Kind != "" && d.Kind != scan.ByCode {
		e.Text = s.in.Text
		if a.Codes != nil {
			e.Text = a.Codes.Redact(e.Text) // the text may contain a code
		}
		e.Text = scanlog.Fit(e.Text, scanlog.MaxText)
	} else if d.Reason == codes.UnknownCode { // 16 bits of a hash suffice to count different texts, and reveal no text
		e.Text, e.Index = scanlog.Fit(d.Code.Prefix, scanlog.MaxText), int64(xxhash.Sum64String(s.in.Text)>>48)
	}
	return e
}

// FromBrowser is the source of a scan with a phone's built-in camera, which opened the link in the browser.
const FromBrowser = "browser"

// RecordRedirect records a redirect to a link of a GS1 key as a scan. RecordRedirect does not block, and the client of the redirect does
// not learn whether the scan was recorded.
func (a *API) RecordRedirect(number int64, address, client, ip string) {
	t := a.Now()
	s := pendingScan{parsedRequest: parsedRequest{Request: Request{IP: ip, Client: client, Source: FromBrowser}},
		in: scan.Request{At: t}, id: a.newScanID(t),
		decision: scan.Decision{Action: scan.OpenURL, Kind: scan.ByGS1, Matched: rules.RuleInfo{ID: number}, Link: address}}
	e := a.newEvent(&s)
	if _, err := a.Record(context.Background(), &e); err != nil {
		a.countLost(err)
	}
}

func (a *API) userHash(s *pendingScan) scanlog.UserHash {
	if a.UserHash == nil {
		return scanlog.UserHash{}
	}
	return a.UserHash(s.namespace, s.User)
}

// network returns the part of an IP address that indicates a region but no person: /24 for IPv4, /48 for IPv6.
func network(ip string) netip.Prefix {
	if ip == "" {
		return netip.Prefix{}
	}
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap().WithZone("")
	bits := 48
	if address.Is4() {
		bits = 24
	}
	p, _ := address.Prefix(bits)
	return p
}

// cleanClient returns an app's description of itself without characters that could harm a terminal or a page.
func cleanClient(client string) string {
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, client)
	return scanlog.Fit(printable, scanlog.MaxClient)
}

// randomPool is a pool of random bytes drawn in bulk, because reading ten bytes from the kernel per scan costs more than all other
// steps of creating an id.
var randomPool = sync.Pool{New: func() any { return new(randomBuffer) }}

type randomBuffer struct {
	source io.Reader
	rest   []byte
	buf    [640]byte
}

// newScanID returns an id of the scan's millisecond and 80 random bits, so that ids sort by time.
func (a *API) newScanID(t time.Time) (id scanlog.ScanID) {
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	c := randomPool.Get().(*randomBuffer)
	defer randomPool.Put(c)
	if c.source != a.Random || len(c.rest) < 10 {
		c.source, c.rest = a.Random, c.buf[:]
		if _, err := io.ReadFull(a.Random, c.rest); err != nil {
			c.rest = nil
			panic(fmt.Errorf("generating a scan ID: %w", err))
		}
	}
	copy(id[6:], c.rest)
	clear(c.rest[:10])
	c.rest = c.rest[10:]
	return id
}
