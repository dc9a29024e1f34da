package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/edge/fastpath"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/eventlog/lake"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// urlOf returns the base URL of a listener.
func (s *Server) urlOf(l net.Listener) string {
	if s.serving.certificate != nil {
		return reachable("https://" + l.Addr().String())
	}
	return reachable("http://" + l.Addr().String())
}

// lane returns a listener that serves scans itself (the fast path) and hands connections with other requests to net/http.
func (s *Server) lane(l net.Listener) *fastpath.Listener {
	lane := s.scanAPI().FastPath(cmp.Or(s.testHooks.FastPathTimeout, time.Second))
	lane.AnswerTime, lane.IdleTime, lane.OnResponse, lane.OnHandoff = answerTime, idleTime, s.metrics.lane.Inc, s.metrics.handed.Inc
	if s.config.Dev {
		lane.KnownHost = s.access().knownName
	}
	if s.serving.certificate != nil {
		lane.TLS = certificates.Config(s.serving.certificate)
		lane.TLS.NextProtos = []string{"h2", "http/1.1"}
	}
	return lane.Listen(l)
}

// scanning holds the storage and the counters of scans.
type scanning struct {
	scanLog *scanLog
	users   *sealer.Hasher // of the scan log
	regions *stats.Regions
	counter *stats.Aggregator
	alarms  *alarms.Service
}

// scanLog holds the durable storage of this node's scans.
type scanLog struct {
	journal  *scanlog.Journal
	recorder *scanlog.Recorder
	log      scanlog.Log                       // log that collects the scans of all nodes
	shipper  *scanlog.Shipper                  // ships scans to the log of all nodes; nil = the journal is that log
	traces   *tracing.Messages[scanlog.ScanID] // trace contexts of scans that wait for the stream; nil = spans are not recorded
	stream   *stream.Log                       // stream of --scan-stream; nil = none
	nodes    *scanlog.Nodes                    // connections to the other nodes; nil = single node
	earlier  scanlog.Log                       // log with the scans from before --scan-stream; nil = the field log has all scans
	lake     *lake.Lake                        // lake of --lake; nil = none
	mended   atomic.Int64                      // value of recorder.Lost() at the last successful test write
}

// scanLogComponent returns the component that makes scans durable.
func (s *Server) scanLogComponent() component {
	return component{
		name: "scan log",
		start: func(ctx context.Context) error {
			s.scans().openAlarms()
			if err := s.scans().openJournal(ctx); err != nil {
				return err
			}
			return s.scans().openNodes(ctx)
		},
		stop: func(ctx context.Context) error { return s.scanning.scanLog.close(ctx, s.log) },
	}
}

// openJournal opens the journal in the data folder.
func (s scanRecords) openJournal(ctx context.Context) error {
	journal, err := scanlog.OpenJournal(s.config.scansDir(), scanlog.JournalOptions{Log: s.log, Random: s.random})
	if err != nil {
		return fmt.Errorf("opening the scan log: %w", err)
	}
	s.scanning.scanLog = &scanLog{journal: journal, recorder: scanlog.NewRecorder(journal, scanlog.RecorderOptions{})}
	watchGauge(s.metrics, "qrjump_scan_queue_length", s.scanning.scanLog.recorder.Waiting)
	watchCount(s.metrics, "qrjump_scans_recorded_total", s.scanning.scanLog.recorder.Recorded)
	watchCount(s.metrics, "qrjump_scan_fsyncs_total", s.scanning.scanLog.recorder.Flushes)
	return s.openScanLog(ctx)
}

func (l *scanLog) record(ctx context.Context, e *scanlog.Event) (scanapi.Durable, error) {
	l.traces.Keep(ctx, e.ID)
	group, err := l.recorder.Enqueue(e)
	if err != nil {
		return nil, err
	}
	return group, nil
}

// close writes the scans that are still buffered. An error of close means that some scans are lost although their responses were sent.
func (l *scanLog) close(ctx context.Context, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	err := l.recorder.Close()
	// Scans that cannot be shipped now are shipped after the next start.
	_ = l.flush(ctx)
	if l.lake != nil {
		parent, cancel := context.WithTimeout(ctx, lastWrite/2)
		_ = l.lake.Flush(parent) // if this write to the lake fails, it is retried after the next start
		cancel()
	}
	if l.nodes != nil {
		_ = l.nodes.Leave(ctx) // if Leave fails, other nodes keep querying this node and get no response
	}
	if l.stream != nil {
		err = errors.Join(err, l.stream.Close())
	}
	if unsealed := l.journal.Close(); unsealed != nil { // nothing is lost: all scans in the journal are already durable
		log.WarnContext(ctx, "last journal file not sealed", "error", unsealed)
	}
	return err
}

// isAsync reports whether the server responds to a scan before the scan is durable; scans of codes are never async.
func (s *Server) isAsync() bool { return s.chosen.settings.Get().ScanCommit == settings.Async }

// userHash returns the hash that identifies a user in the scan log. The separator is a byte 0, which no namespace contains, so different
// pairs of namespace and user have different hash inputs.
func (s *Server) userHash(namespace, user string) scanlog.UserHash {
	sum := s.scanning.users.Sum(namespace, "\x00", user)
	return scanlog.UserHash(sum[:len(scanlog.UserHash{})])
}

// contact holds the time of the store's last response, on the real clock.
type contact struct {
	last atomic.Int64 // Unix ms
	lost atomic.Bool
}

// reloadScanKeys reloads the scan keys at every interval, so that keys that other nodes created or revoked apply here too. The reload also
// shows whether the store responds.
func (s *Server) reloadScanKeys(ctx context.Context, interval time.Duration) {
	s.domain.contact.last.Store(s.realNow().UnixMilli())
	tick := time.Tick(interval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		parent, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := s.domain.keys.Load(parent)
		cancel()
		switch {
		case err == nil:
			s.domain.contact.last.Store(s.realNow().UnixMilli())
			if s.domain.contact.lost.Swap(false) {
				s.log.Info("store recovered")
			}
		case ctx.Err() == nil && !s.domain.contact.lost.Swap(true):
			s.log.Error("store unreachable; rule scans are served from memory", "error", err)
		}
	}
}

// age returns the age of the in-memory copy that scans use; 0 while the store responds and the copy has all changes.
func (s *Server) age() time.Duration {
	if !s.domain.contact.lost.Load() && !s.domain.current.Stale() {
		return 0
	}
	return max(s.realNow().Sub(time.UnixMilli(s.domain.contact.last.Load())), s.domain.current.Staleness(), time.Millisecond)
}
