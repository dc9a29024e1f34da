package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// End implements scanlog.Log.
func (l *Log) End(ctx context.Context) (int64, error) {
	end, _, err := l.endNow(ctx)
	return end, err
}

// endNow returns the last sequence and the id of the current stream, which may have been recreated since this Log opened it.
func (l *Log) endNow(ctx context.Context) (end int64, id string, err error) {
	info, err := l.currentInfo(ctx)
	if err != nil {
		return 0, "", err
	}
	return int64(info.State.LastSeq), l.named(createdAt(info)), nil
}

// end returns the last sequence and the id of the stream that this Log has opened; errAnew if the stream is gone or was recreated.
func (l *Log) end(ctx context.Context) (end int64, id string, err error) {
	if _, err := l.ready(ctx); err != nil {
		return 0, "", err
	}
	info, err := l.info(ctx)
	if err != nil {
		return 0, "", err
	}
	return int64(info.State.LastSeq), l.named(createdAt(info)), nil
}

// errAnew is returned if the stream is gone or was recreated since this Log opened it.
var errAnew = errors.New("the stream was deleted or recreated")

// currentInfo returns the state of the current stream; if the stream was recreated, currentInfo opens it again.
func (l *Log) currentInfo(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	for range 2 {
		if _, err = l.ready(ctx); err != nil {
			return nil, err
		}
		if info, err = l.info(ctx); !errors.Is(err, errAnew) {
			break
		}
	}
	return info, err
}

// info requests the state of the stream that this Log has opened. info returns errAnew if the stream is gone or was recreated, and an error
// if the response may lack the last messages (checkQuorum). info opens another handle, because Stream.Info modifies its handle.
func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := l.js.Stream(ctx, l.options.Stream)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			l.forgetServer()
			return nil, fmt.Errorf("%w: %w", errAnew, err)
		}
		return nil, fmt.Errorf("reading the end of the stream: %w", err)
	}
	info := stream.CachedInfo()
	l.mu.Lock()
	equal := l.created == createdAt(info)
	l.mu.Unlock()
	if !equal {
		l.forgetServer()
		return nil, errAnew
	}
	return info, checkQuorum(info)
}

// checkQuorum returns an error if the response about the state of a stream may lack acknowledged messages: a follower responds while its
// group has no leader, and a former leader responds until it notices, within 20 seconds, that it is cut off from the other servers. These
// servers elect a new leader four seconds after they last received something from the former leader, so the leader must have received
// something from a majority within less time. A leader sends at least every two seconds.
func checkQuorum(info *jetstream.StreamInfo) error {
	if info.Config.Replicas <= 1 {
		return nil
	}
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return errors.New("reading the end of the stream: the stream has no leader")
	}
	heard := 0
	for _, peer := range info.Cluster.Replicas {
		if !peer.Offline && peer.Active < 3*time.Second {
			heard++
		}
	}
	if peers := len(info.Cluster.Replicas); heard < (peers+1)/2 {
		return fmt.Errorf("reading the end of the stream: the leader has heard from %d of %d other servers within three seconds", heard,
			peers)
	}
	return nil
}
