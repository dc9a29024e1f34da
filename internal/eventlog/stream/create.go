package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ready creates the stream if it does not exist, and verifies that servers sync messages to disk before they acknowledge them.
// ErrNotFlushed, ErrTooOld.
func (l *Log) Ready(ctx context.Context) error {
	_, err := l.ready(ctx)
	return err
}

func (l *Log) ready(ctx context.Context) (jetstream.Stream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream != nil {
		return l.stream, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.options.answerTime())
	defer cancel()
	if !l.options.Vouched {
		for _, monitor := range l.options.Monitors {
			if err := flushes(ctx, monitor); err != nil {
				return nil, err
			}
		}
	}
	if err := tooOld(l.conn.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	oldTo, err := readShipped(l.markFile())
	if err != nil {
		return nil, err
	}
	stream, err := l.js.Stream(ctx, l.options.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = l.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the stream %s: %w", l.options.Stream, err)
	}
	if c := stream.CachedInfo().Config; c.Storage != jetstream.FileStorage || c.PersistMode != jetstream.DefaultPersistMode ||
		c.Retention != jetstream.LimitsPolicy || c.MaxAge > 0 || c.Discard != jetstream.DiscardNew ||
		c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject ||
		c.AllowDirect { // a direct read asks any server, which may lack messages of the stream
		return nil, fmt.Errorf("stream %s: want file storage, no asynchronous persistence (persist_mode), retention by limits, no maximum "+
			"age of messages (max_age), discard of new messages when the stream or a subject is full (discard_new_per_subject), and no "+
			"direct reads (allow_direct)", l.options.Stream)
	}
	made := createdAt(stream.CachedInfo())
	for _, id := range []string{oldTo.stream, l.id()} {
		if id != "" && id != l.named(made) && (id != oldTo.stream || oldTo.address == l.address()) {
			l.lost[id] = true
		}
	}
	l.stream, l.created, l.window = stream, made, stream.CachedInfo().Config.Duplicates
	return stream, nil
}

// The first sequence of a stream that replaces an earlier stream is a multiple of generation.
const generation = 1 << 32

// create creates the stream, or opens the stream that another node has created. Sequences of the new stream begin above all known
// sequences of an earlier stream, so that a stored position in the earlier stream refers to no new scan. Before it replaces a stream,
// create waits for deletionTime.
func (l *Log) create(ctx context.Context) (jetstream.Stream, error) {
	first := uint64(0)
	known, err := l.lastKnown(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding the first sequence number for a new stream: %w", err)
	}
	if known > 0 {
		first = (known/generation + 1) * generation
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(deletionTime):
		}
	}
	wanted := jetstream.StreamConfig{Name: l.options.Stream, Description: "scans of qrjump",
		Subjects: []string{l.prefix() + "*"},
		Storage:  jetstream.FileStorage, Replicas: max(1, l.options.Replicas), Retention: jetstream.LimitsPolicy,
		// A full stream rejects new messages, and never drops old ones.
		Discard: jetstream.DiscardNew, Duplicates: time.Hour, FirstSeq: first}
	stream, err := l.js.CreateStream(ctx, wanted)
	for noStore(err) {
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
		stream, err = l.js.CreateStream(ctx, wanted)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node has created the stream first
		return l.js.Stream(ctx, l.options.Stream)
	}
	return stream, err
}

// lastKnown returns the last sequence of a stream, this one or an earlier one, that was acknowledged to this node or counted; 0 = none.
func (l *Log) lastKnown(ctx context.Context) (uint64, error) {
	oldTo, err := readShipped(l.markFile())
	if err != nil || l.options.Counted == nil {
		return oldTo.last.sequence, err
	}
	counted, err := l.options.Counted(ctx)
	return max(oldTo.last.sequence, uint64(counted)), err
}

// deletionTime is enough time for a server to remove the folder of a deleted stream. A server reports a stream as deleted before it removes
// the folder, and would also remove the files of a new stream of the same name.
const deletionTime = time.Second

// replaceUnwritable deletes the current stream if a message got no response, with error err, and the stream has never stored a message:
// the server cannot write to the stream's folder, because the folder was removed with a former stream (deletionTime), and would accept no
// message until it is restarted. A stream of which a sequence is known has stored messages, even if its servers have lost them. The error
// that replaceUnwritable returns contains err.
func (l *Log) replaceUnwritable(ctx context.Context, err error) error {
	if !errors.Is(err, jetstream.ErrAsyncPublishTimeout) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return err
	}
	info, failed := l.info(ctx)
	if failed != nil || info.State.Msgs > 0 || info.State.LastSeq+1 != max(info.Config.FirstSeq, 1) {
		return err // the stream has no leader, is gone, was recreated, or has stored messages
	}
	if known, failed := l.lastKnown(ctx); failed != nil || known > info.State.LastSeq {
		return errors.Join(err, failed)
	}
	if failed := l.js.DeleteStream(ctx, l.options.Stream); failed != nil {
		return errors.Join(err, fmt.Errorf("replacing the stream %s, to which the server cannot write: %w", l.options.Stream, failed))
	}
	return err
}

// noStore reports whether the server failed to create the folder of a stream, because the server still removes a former stream of the same
// name or because the server's disk is full; in both cases create retries until its context ends.
func noStore(err error) bool {
	const storeFailed = 10049
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == storeFailed
}

func createdAt(info *jetstream.StreamInfo) string { return info.Created.UTC().Format(time.RFC3339Nano) }

// named returns the id of the stream for a creation time: the stream's name and the time.
func (l *Log) named(created string) string { return l.options.Stream + " " + created }

// id returns the id of the stream that this Log has opened last; "" = none yet. The caller must have locked mu.
func (l *Log) id() string {
	if l.created == "" {
		return ""
	}
	return l.named(l.created)
}

// flushes returns ErrNotFlushed unless the monitoring port of a server confirms the setting sync_interval: always.
func flushes(ctx context.Context, monitor string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, monitor+"/varz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrNotFlushed, ErrNoMonitor, err)
	}
	defer resp.Body.Close()
	var varz struct {
		JetStream struct {
			Config *struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&varz); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: the response of %s/varz is not that of a NATS server", ErrNotFlushed, monitor)
	}
	switch {
	case varz.JetStream.Config == nil:
		return fmt.Errorf("%w: JetStream is off on %s", ErrNotFlushed, monitor)
	case !varz.JetStream.Config.SyncAlways:
		return fmt.Errorf("%w: set sync_interval: always in the jetstream block of the server of %s, and restart it", ErrNotFlushed,
			monitor)
	}
	return nil
}
