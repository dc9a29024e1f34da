// Package stream stores the scan log in a NATS JetStream stream.
package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Log implements scanlog.Log and scanlog.SharedLog with a JetStream stream: the position of a scan is the stream sequence of its
// message, and the id of a scan is the message id. A scan that is published again after the deduplication window is in the stream
// twice, but Read yields it once (repeats).
//
// A NATS server acknowledges a message before the server syncs it to disk, unless the server's setting sync_interval is "always". Log
// publishes nothing until it has verified the setting sync_interval of each server, unless the operator trusts the setting.
type Log struct {
	options Options
	conn    *nats.Conn
	js      jetstream.JetStream

	mu      sync.Mutex
	stream  jetstream.Stream // nil until the stream exists and the server's setting is verified
	created string
	window  time.Duration   // the stream's deduplication window
	lost    map[string]bool // ids of streams that this node used at this address and that no longer exist
	target  string          // id of the stream to which this node ships
	begin   int64           // events of this node's journal after this position belong in a stream
	upTo    scanlog.Offset  // journal events up to this offset may be in a stream
	// leaveOut is a journal position: events up to it that are counted and reported to webhooks are not published again.
	leaveOut int64
}

// Options holds the address and the settings of the stream.
type Options struct {
	// Servers lists the nats:// or tls:// addresses of the NATS servers, with user and password if required.
	Servers []string
	// Monitors lists the HTTP addresses of the NATS servers' monitoring ports. Monitors must list every server that stores the stream.
	Monitors []string
	// Vouched is true if the operator asserts that the servers sync each message to disk before they acknowledge it.
	Vouched bool
	// Credentials is the path of a NATS credentials file; "" = none.
	Credentials string
	// Stream is the name of the stream; "" = QRJUMP_SCANS. Replicas is the number of replicas of a new stream; 0 = 1.
	Stream   string
	Replicas int
	// Emulated is true if event times come from an emulated clock, so that they cannot be compared with the arrival times of messages.
	Emulated bool
	// Marks is the folder in which this node stores the offset up to which its journal was shipped.
	Marks string
	// Erased lists users that were erased after a time in Unix milliseconds, and Erase records an erased user: events of this user that are
	// published later are anonymous. nil = users are never erased.
	Erased func(ctx context.Context, after int64) ([]scanlog.Erasure, error)
	Erase  func(ctx context.Context, user scanlog.UserHash) error
	// CountedSet returns the counted events of a node's journal; nil = unknown.
	CountedSet func(ctx context.Context, node string) (*scanlog.OffsetSet, error)
	// ReportedSet returns the events of a node's journal that were reported to webhooks. The result is nil if no webhook receives scans, or
	// if the events are unknown. ReportedSet may be nil.
	ReportedSet func(ctx context.Context, node string) (*scanlog.OffsetSet, error)
	// Counted returns the position of the last counted scan in the scan log that is currently counted; nil = unknown.
	Counted func(ctx context.Context) (int64, error)

	// Tracing records the publication of each event whose trace context is in Traces; nil = none.
	Tracing tracing.Recorder
	Traces  *tracing.Messages[scanlog.ScanID]

	// Patience is the timeout for a server's response; 0 = ten seconds, enough for a busy machine.
	Patience time.Duration

	dialer nats.CustomDialer // nil = the default network dialer
}

// answerTime returns the timeout for a server's response.
func (o Options) answerTime() time.Duration { return cmp.Or(o.Patience, 10*time.Second) }

// ErrNotFlushed is returned if a server acknowledges messages before it syncs them to disk, or if its setting cannot be read.
var ErrNotFlushed = errors.New("the NATS server may acknowledge messages before it syncs them to disk")

// ErrTooOld is returned for a NATS server before 2.10, which cannot create a stream whose first sequence is above 1.
var ErrTooOld = errors.New("qrjump requires NATS 2.10 or later")

// tooOld returns ErrTooOld for a version before 2.10; an unknown version is accepted.
func tooOld(version string) error {
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n == 2 && (major < 2 || major == 2 && minor < 10) {
		return fmt.Errorf("%w: this server is %s", ErrTooOld, version)
	}
	return nil
}

// ErrNoMonitor is returned if a server's monitoring address does not respond.
var ErrNoMonitor = errors.New("its monitoring address does not respond")

// Parse parses the value of the flag --scan-stream:
// nats://HOST:4222[,HOST:4222][?monitor=http://HOST:8222&stream=NAME&replicas=3&creds=FILE&flush=vouched].
func Parse(text string) (o Options, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		// The error of url.Parse is dropped, because it may contain the password.
		return o, errors.New("want nats://HOST:4222?monitor=http://HOST:8222")
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		server := url.URL{Scheme: u.Scheme, User: u.User, Host: host}
		o.Servers = append(o.Servers, server.String())
	}
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch name {
		case "monitor":
			for _, text := range values {
				m, err := url.Parse(text)
				if err != nil || m.Host == "" || m.Scheme != "http" && m.Scheme != "https" {
					return o, fmt.Errorf("monitor=%s: want the address of the server's monitoring port, such as http://127.0.0.1:8222",
						text)
				}
				o.Monitors = append(o.Monitors, strings.TrimSuffix(text, "/"))
			}
		case "stream":
			o.Stream = value
		case "creds":
			o.Credentials = value
		case "replicas":
			if o.Replicas, err = strconv.Atoi(value); err != nil || o.Replicas < 1 || o.Replicas > 5 {
				return o, fmt.Errorf("replicas=%s: want 1 to 5", value)
			}
		case "flush":
			if value != "vouched" {
				return o, fmt.Errorf("flush=%s: want flush=vouched, or leave it out", value)
			}
			o.Vouched = true
		default:
			return o, fmt.Errorf("unknown parameter %s: want monitor, stream, replicas, creds or flush", name)
		}
	}
	if len(o.Monitors) == 0 && !o.Vouched {
		return o, errors.New("the server may not sync scans before it acknowledges them: add ?monitor=http://HOST:8222 or flush=vouched")
	}
	return o, nil
}

// Open returns a Log that connects to the NATS servers in the background, and retries while no server responds.
func Open(o Options) (*Log, error) {
	if o.Stream == "" {
		o.Stream = "QRJUMP_SCANS"
	}
	options := []nats.Option{nats.Name("qrjump"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second),
		// Messages are not buffered while no server is connected: they are sent again from the journal.
		nats.ReconnectBufSize(-1)}
	if o.Credentials != "" {
		options = append(options, nats.UserCredentials(o.Credentials))
	}
	answers := []jetstream.JetStreamOpt{jetstream.WithPublishAsyncMaxPending(2048), jetstream.WithPublishAsyncTimeout(o.answerTime())}
	if o.Patience > 0 {
		options, answers = append(options, nats.Timeout(o.Patience)), append(answers, jetstream.WithDefaultTimeout(o.Patience))
	}
	if o.dialer != nil {
		options = append(options, nats.SetCustomDialer(o.dialer))
	}
	l := &Log{options: o, lost: map[string]bool{}}
	// After a reconnect, the settings are verified again, because a restarted server may have other settings.
	options = append(options, nats.ReconnectHandler(func(*nats.Conn) { l.forgetServer() }))
	var err error
	if l.conn, err = nats.Connect(strings.Join(o.Servers, ","), options...); err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	if l.js, err = jetstream.New(l.conn, answers...); err != nil {
		l.conn.Close()
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	return l, nil
}

func (l *Log) forgetServer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream = nil
}

// subject returns the subject of a scan's message: the prefix of the stream and the minute of the scan's id, so that a scan can be
// found by its id without reading the whole stream.
func (l *Log) subject(id scanlog.ScanID) string {
	return l.prefix() + strconv.FormatInt(id.Time().UnixMilli()/60_000, 10)
}

func (l *Log) prefix() string {
	return strings.ReplaceAll(strings.ToLower(l.options.Stream), "_", ".") + "."
}

// address returns the hosts and the name of the stream, without passwords.
func (l *Log) address() string {
	hosts := make([]string, 0, len(l.options.Servers))
	for _, server := range l.options.Servers {
		if u, err := url.Parse(server); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	slices.Sort(hosts)
	return strings.Join(hosts, ",") + "/" + l.options.Stream
}

// Lost implements scanlog.Log: it returns true if this Log has found that the stream with the given id is gone, for example because
// the server lost its data folder.
func (l *Log) Lost(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost[id]
}

// Missing implements scanlog.Log. Missing returns 0, because a loss of events is detected by the id or the last sequence of the stream.
func (l *Log) Missing(int64) int64 { return 0 }

// ID returns the stream's id, which consists of its name and creation time; "" until this Log has opened the stream.
func (l *Log) ID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id()
}

// append publishes journal events; prev is the journal position before the first event. append returns the event with the highest
// assigned sequence, and the number of acknowledged events.
func (l *Log) append(ctx context.Context, prev int64, entries []scanlog.Entry) (last brought, n int, err error) {
	dst := l.shippedInto()
	for items := range slices.Chunk(entries, publishAtOnce) {
		futures := make([]jetstream.PubAckFuture, 0, len(items))
		endSpans := l.startSpans(ctx, items)
		for i := range items {
			items[i].From.Before = prev
			f, err := l.publish(&items[i], dst)
			if err != nil {
				endSpans(err)
				return last, n, err
			}
			futures = append(futures, f)
		}
		next := last
		err := acknowledged(ctx, futures, func(i int, ack *jetstream.PubAck) {
			items[i].Position = int64(ack.Sequence)
			if ack.Sequence >= next.sequence {
				next = brought{ack.Sequence, items[i].ID}
			}
		})
		endSpans(err)
		if err != nil {
			err = l.replaceUnwritable(ctx, err)
			l.forgetServer() // the stream may be gone, and is opened again before the next use
			return last, n, err
		}
		last, n, prev = next, n+len(items), items[len(items)-1].From.Position
	}
	return last, n, nil
}

// startSpans begins a span for each event that has a trace context, sets the Trace field of the event to the span, and returns the
// function that ends the spans.
func (l *Log) startSpans(ctx context.Context, entries []scanlog.Entry) func(error) {
	if l.options.Tracing == nil {
		return func(error) {}
	}
	var ends []func(error)
	for i := range entries {
		e := &entries[i]
		if e.Trace = l.options.Traces.Take(e.ID); e.Trace != "" {
			ctx, end := l.options.Tracing.Start(l.options.Tracing.Continue(ctx, e.Trace), tracing.Producer, "publish scan",
				slog.String("messaging.system", "nats"), slog.String("messaging.destination.name", l.options.Stream))
			e.Trace, ends = l.options.Tracing.Header(ctx), append(ends, end)
		}
	}
	return func(err error) {
		for _, end := range ends {
			end(err)
		}
	}
}

// shippedInto returns the id of the stream to which this node ships; "" = not known yet.
func (l *Log) shippedInto() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target
}

// publishAtOnce is the maximum number of messages in flight. The server syncs each message separately, and must acknowledge all
// messages in flight within answerTime.
const publishAtOnce = 250

func (l *Log) publish(e *scanlog.Entry, dst string) (jetstream.PubAckFuture, error) {
	m := &nats.Msg{Subject: l.subject(e.ID), Header: headers(e, dst), Data: scanlog.AppendRecord(make([]byte, 0, 256), &e.Event)}
	return l.send(m, e.ID.String())
}

func (l *Log) send(m *nats.Msg, id string) (jetstream.PubAckFuture, error) {
	f, err := l.js.PublishMsgAsync(m, jetstream.WithMsgID(id), jetstream.WithExpectStream(l.options.Stream))
	if err != nil {
		return nil, fmt.Errorf("publishing a scan: %w", err)
	}
	return f, nil
}

// acknowledged waits for the acknowledgement of each message in order, and calls fn with it. acknowledged stops at the first error.
func acknowledged(ctx context.Context, futures []jetstream.PubAckFuture, fn func(i int, ack *jetstream.PubAck)) error {
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			fn(i, ack)
		case err := <-f.Err():
			return fmt.Errorf("publishing a scan: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// fetchAtOnce is the maximum number of messages per fetch request.
const fetchAtOnce = 1000

// visit creates a consumer with the configuration c and calls f for its messages up to sequence upTo, in order, until f returns false. The
// argument "in" is the id of the stream to which upTo belongs; visit returns errAnew if the current stream has another id; "" = any stream.
//
// A consumer is on one of the stream's servers. If this server lacks messages that the stream contains, for example after a restart, visit
// waits for them, and returns an error if they do not arrive within answerTime.
func (l *Log) visit(ctx context.Context, in string, c jetstream.ConsumerConfig, upTo uint64,
	f func(jetstream.Msg, *jetstream.MsgMetadata) (bool, error)) error {
	stream, err := l.ready(ctx)
	if err != nil {
		return err
	}
	c.AckPolicy, c.MemoryStorage, c.InactiveThreshold, c.Replicas = jetstream.AckNonePolicy, true, time.Minute, 1
	consumer, err := stream.CreateConsumer(ctx, c)
	if err != nil {
		return fmt.Errorf("reading the stream: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = stream.DeleteConsumer(ctx, consumer.CachedInfo().Name) // if the deletion fails, the server removes the consumer after a timeout
	}()
	if in != "" { // a consumer ends with its stream: if the current stream has this id, the consumer belongs to it
		info, err := l.info(ctx)
		if err == nil && l.named(createdAt(info)) != in {
			err = errAnew
		}
		if err != nil {
			return err
		}
	}
	next, pending := max(1, c.OptStartSeq), consumer.CachedInfo().NumPending
	hasMore := func() (bool, error) {
		if next > upTo || pending > 0 {
			return next <= upTo, nil
		}
		m, err := messageFrom(ctx, stream, next, cmp.Or(c.FilterSubject, ">"))
		return m != nil && m.Sequence <= upTo, err
	}
	expected := uint64(1)
	deliver := func(m jetstream.Msg) (more bool, err error) {
		meta, err := m.Metadata()
		if err != nil {
			return false, fmt.Errorf("reading the stream: %w", err)
		}
		if meta.Sequence.Consumer != expected {
			return false, fmt.Errorf("reading the stream: got message %d, want %d", meta.Sequence.Consumer, expected)
		}
		expected++
		next, pending = meta.Sequence.Stream+1, meta.NumPending
		if meta.Sequence.Stream > upTo {
			return false, nil
		}
		if more, err = f(m, meta); err != nil || !more {
			return false, err
		}
		return hasMore() // otherwise, fetch would wait for a full batch
	}
	more, err := hasMore()
	for err == nil && more {
		more, err = l.fetch(ctx, consumer, deliver)
		if errors.Is(err, errNoMessage) {
			pending = 0 // the pending messages may have been deleted meanwhile
			if exists, failed := hasMore(); failed == nil && !exists {
				return nil
			}
		}
	}
	return err
}

var errNoMessage = errors.New("the consumer's server is down or lacks messages of the stream")

// fetch calls f for the next messages of a consumer until f returns false. fetch returns an error if ctx ends, or errNoMessage if no
// message arrives within answerTime.
func (l *Log) fetch(ctx context.Context, c jetstream.Consumer, f func(jetstream.Msg) (more bool, err error)) (more bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, l.options.answerTime())
	defer cancel()
	batch, err := c.Fetch(fetchAtOnce, jetstream.FetchContext(waiting))
	if err != nil {
		return false, fmt.Errorf("reading the stream: %w", err)
	}
	more = false
	for m := range batch.Messages() {
		if more, err = f(m); err != nil || !more {
			return false, err
		}
	}
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case batch.Error() != nil && !errors.Is(batch.Error(), context.DeadlineExceeded):
		return false, fmt.Errorf("reading the stream: %w", batch.Error())
	case !more:
		return false, fmt.Errorf("reading the stream: no message within %v: %w", l.options.answerTime(), errNoMessage)
	}
	return true, nil
}

// messageFrom returns the first message with the given subject at or after a sequence; nil if the stream has none. The stream's leader
// responds, which has every acknowledged message.
func messageFrom(ctx context.Context, stream jetstream.Stream, sequence uint64, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	return m, nil
}

// latest returns the time at which a server stored a message, or the time of its scan if this is later: the clock of the server that was
// the stream's leader may have been wrong.
func latest(stored time.Time, record []byte) time.Time {
	if id, ok := scanlog.RecordID(record); ok && id.Time().After(stored) {
		return id.Time()
	}
	return stored
}

// firstSince returns a sequence from which the latest time of every message is at or after moment, by a binary search, so that the
// earliest such sequence is returned if the times rise from message to message; state.LastSeq+1 if no message is that late.
func firstSince(ctx context.Context, stream jetstream.Stream, state jetstream.StreamState, moment time.Time) (uint64, error) {
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		m, err := messageFrom(ctx, stream, middle, ">")
		switch {
		case err != nil:
			return 0, err
		case m != nil && latest(m.Time, m.Data).Before(moment):
			low = m.Sequence + 1
		default:
			high = middle
		}
	}
	return high, nil
}

// Read implements scanlog.Log.
func (l *Log) Read(ctx context.Context, start int64) iter.Seq2[scanlog.Entry, error] {
	return l.read(ctx, start, true)
}

// read yields the events after position start, up to the stream's end when read was called; if single is true, each scan only once.
func (l *Log) read(ctx context.Context, start int64, single bool) iter.Seq2[scanlog.Entry, error] {
	end, in, err := l.end(ctx)
	return func(yield func(scanlog.Entry, error) bool) {
		left := false
		if err == nil && start < end {
			var texts scanlog.Texts
			next, erased, known := max(0, start)+1, copies{stream: in}, repeats{}
			give := func(e scanlog.Entry, isLate bool) (bool, error) {
				if single && isLate {
					if first, err := l.first(ctx, e.ID, end, &erased, &known); err != nil || first < e.Position {
						return err == nil, err
					}
				}
				left = !yield(e, nil)
				return !left, nil
			}
			// giveMissing gives the anonymous copies of erased messages from next to before pos.
			giveMissing := func(pos int64) (bool, error) {
				list, err := l.missing(ctx, &erased, next, pos)
				for _, e := range list {
					if hasMore, err := give(e, true); !hasMore {
						return false, err
					}
				}
				return err == nil, err
			}
			err = l.visit(ctx, in,
				jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(next)},
				uint64(end),
				func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
					pos := int64(meta.Sequence.Stream)
					if pos > next {
						if hasMore, err := giveMissing(pos); !hasMore {
							return false, err
						}
					}
					next = pos + 1
					if m.Subject() == l.copySubject() {
						return true, nil
					}
					e, err := scanlog.DecodeRecord(m.Data(), &texts)
					if err != nil {
						return false, fmt.Errorf("message %d of the stream: %w", pos, err)
					}
					entry := scanlog.Entry{Position: pos, Event: e, From: originOf(m, in), Trace: m.Headers().Get(traceHeader)}
					return give(entry, l.mayRepeat(e.ID, meta))
				})
			if err == nil && !left && next <= end { // the last messages were erased since the read began
				_, err = giveMissing(end + 1)
			}
		}
		if err != nil && !left {
			yield(scanlog.Entry{}, err)
		}
	}
}

// PositionBefore implements scanlog.Log. Because of clock differences between nodes, a message may seem to arrive before its event,
// but by less than a day.
func (l *Log) PositionBefore(ctx context.Context, moment time.Time) (position int64, err error) {
	if l.options.Emulated {
		return 0, nil
	}
	info, err := l.currentInfo(ctx)
	if err != nil || info.State.LastSeq == 0 {
		return 0, err
	}
	stream, err := l.ready(ctx)
	if err != nil {
		return 0, err
	}
	end, in := int64(info.State.LastSeq), l.named(createdAt(info))
	first, err := firstSince(ctx, stream, info.State, moment.Add(-24*time.Hour))
	if err != nil {
		return 0, err
	}
	position = int64(first) - 1
	// Messages of erased users are deleted, and their anonymous copies arrived later, so for copies the time of the event is decisive.
	erased := copies{stream: in}
	if err := l.readCopies(ctx, &erased, end); err != nil {
		return 0, err
	}
	for i := range erased.list {
		if e := &erased.list[i]; !e.OccurredAt.Before(moment) {
			position = min(position, e.Position-1)
		}
	}
	return position, nil
}

// ListRange implements scanlog.Log: it reads from the first message that can belong to the time range.
func (l *Log) ListRange(ctx context.Context, start int64, from, _ time.Time) iter.Seq2[scanlog.Entry, error] {
	prev, err := l.PositionBefore(ctx, from)
	if err != nil {
		return func(yield func(scanlog.Entry, error) bool) { yield(scanlog.Entry{}, err) }
	}
	return l.Read(ctx, max(start, prev))
}

// Find implements scanlog.Log.
func (l *Log) Find(ctx context.Context, id scanlog.ScanID) (int64, error) {
	end, in, err := l.endNow(ctx)
	if err != nil {
		return 0, err
	}
	position, err := l.first(ctx, id, end, &copies{stream: in}, &repeats{})
	if err == nil && position == 0 {
		err = scanlog.ErrNoScan
	}
	return position, err
}

// Forget implements scanlog.Log: it deletes the first messages of the stream up to a message that arrived at or after the given time or
// whose scan was made at or after the given time, and their anonymous copies. Forget reads each message before it deletes the message, so
// that wrong clocks of servers and scans that are shipped late cannot lead to the deletion of a newer scan.
func (l *Log) Forget(ctx context.Context, before time.Time) error {
	stream, err := l.ready(ctx)
	if err != nil {
		return err
	}
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	if info.State.Msgs == 0 || !info.State.FirstTime.Before(before) {
		return nil
	}
	first, in := info.State.LastSeq+1, l.named(createdAt(info))
	err = l.visit(ctx, in, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}, info.State.LastSeq,
		func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
			if latest(meta.Timestamp, m.Data()).Before(before) {
				return true, nil
			}
			first = meta.Sequence.Stream
			return false, nil
		})
	if err != nil {
		return err
	}
	if err := l.forgetCopies(ctx, stream, in, int64(first), int64(info.State.LastSeq), before); err != nil {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil {
		return fmt.Errorf("removing old scans from the stream: %w", err)
	}
	return nil
}

// Close implements scanlog.Log.
func (l *Log) Close() error {
	l.conn.Close()
	return nil
}
