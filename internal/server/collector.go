package server

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/store"
)

// NodeSilence is the time after which a node without a new report counts as unreachable; a running node reports once a minute.
const NodeSilence = 5 * time.Minute

// watch registers the metrics about readiness, database queries and other nodes.
func (s *Server) watch() {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_db_write_errors_total")), []string{"cause"})
	for _, cause := range store.Causes {
		refused.WithLabelValues(cause)
	}
	s.store.OnWriteError(func(cause string) { refused.WithLabelValues(cause).Inc() })
	s.metrics.registry.MustRegister(refused, watcher{s})
	watchGauge(s.metrics, "qrjump_db_connections_in_use", func() int { return s.store.Connections().InUse })
	watchGauge(s.metrics, "qrjump_db_connections_max", func() int { return s.store.Connections().Limit })
	watchCount(s.metrics, "qrjump_db_connections_wait_seconds_total", func() float64 { return s.store.Connections().Waited.Seconds() })
}

// watcher collects the metrics that are read on demand.
type watcher struct{ *Server }

// watched maps the metrics of watcher to their labels.
var watched = map[string][]string{
	"qrjump_ready":                     {"kind"},
	"qrjump_nodes_unreachable":         nil,
	"qrjump_orphans":                   nil,
	"qrjump_outbox_pending":            {"queue"},
	"qrjump_outbox_oldest_age_seconds": {"queue"},
	"qrjump_db_hosts":                  nil,
	"qrjump_db_primaries":              nil,
	"qrjump_db_replicas":               nil,
}

func describe(name string) *prometheus.Desc {
	return prometheus.NewDesc(name, help(name), watched[name], nil)
}

// Describe implements prometheus.Collector.
func (watcher) Describe(to chan<- *prometheus.Desc) {
	for name := range watched {
		to <- describe(name)
	}
}

// Collect implements prometheus.Collector.
func (w watcher) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	show := func(name string, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(describe(name), prometheus.GaugeValue, value, labels...)
	}
	for _, kind := range []string{forScan, forChange} {
		ready := 0.0
		if fault, _ := w.Server.readiness().unready(ctx, kind); fault == "" {
			ready = 1
		}
		show("qrjump_ready", ready, kind)
	}
	if n, err := w.unreachable(ctx); err == nil {
		show("qrjump_nodes_unreachable", n)
	}
	if orphans, err := w.store.Orphans(ctx, w.domain.codes.Memory.Targets(w.now())); err == nil {
		show("qrjump_orphans", float64(len(orphans)))
	}
	if waiting, err := w.store.WaitingRows(ctx); err == nil {
		for _, kind := range []outbox.Kind{outbox.Pushes, outbox.Messages, outbox.Deliveries} {
			oldest := 0.0
			if since := waiting[kind].Oldest; !since.IsZero() {
				oldest = max(0, w.now().Sub(since).Seconds())
			}
			show("qrjump_outbox_pending", float64(waiting[kind].Rows), string(kind))
			show("qrjump_outbox_oldest_age_seconds", oldest, string(kind))
		}
	}
	r, err := w.store.Replication(ctx)
	show("qrjump_db_hosts", float64(r.Hosts))
	show("qrjump_db_primaries", float64(w.primaries()))
	if err == nil {
		show("qrjump_db_replicas", float64(r.Replicas))
	}
}

// unreachable counts the nodes without a report in the last NodeSilence, except the nodes that were shut down.
func (s *Server) unreachable(ctx context.Context) (n float64, err error) {
	all, _, err := s.store.ScanNodes(ctx)
	if err != nil {
		return 0, err
	}
	for _, node := range all {
		if !node.StoppedCleanly && s.realNow().Sub(node.LastSeenAt) > NodeSilence {
			n++
		}
	}
	return n, nil
}

// warnOfNoReplica logs a warning at the start if --database names several servers and no synchronous replica is connected.
func (s *Server) warnOfNoReplica(ctx context.Context) {
	r, err := s.store.Replication(ctx)
	switch {
	case err != nil || r.Hosts < 2 || r.Replicas > 0:
	case r.Synchronous:
		s.log.WarnContext(ctx, "no database replica is connected; changes wait", "servers", r.Hosts)
	default:
		s.log.WarnContext(ctx, "no synchronous database replica; a failover may lose changes",
			"hint", "set synchronous_standby_names on every server", "servers", r.Hosts)
	}
}

// primariesEvery is the interval at which a node checks which database servers accept writes.
const primariesEvery = 10 * time.Second

// primariesComponent returns the component that checks which of the servers in --database accept writes. Decision 58.
func (s *Server) primariesComponent() component {
	return component{name: "look at the primaries", run: func(ctx context.Context) {
		if !s.store.Shared() {
			return
		}
		tick := time.Tick(cmp.Or(s.testHooks.PrimariesEvery, primariesEvery))
		said, silent := "", ""
		for {
			found := s.store.AskServers(ctx)
			if ctx.Err() != nil {
				return
			}
			s.writing.Store(&found)
			said = s.logPrimaries(ctx, found, said)
			if current := strings.Join(found.Silent, " "); current != silent {
				silent = current
				if current != "" {
					s.log.WarnContext(ctx, "database servers unreachable", "servers", current)
				} else {
					s.log.InfoContext(ctx, "all database servers reachable")
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
		}
	}}
}

// logPrimaries logs an error if several database servers accept writes, and a message when only one server accepts them again. said lists
// the servers in the last message; the result is the next value of said.
func (s *Server) logPrimaries(ctx context.Context, found store.Servers, said string) string {
	current := ""
	if found.Primaries() > 1 {
		var all []string
		for _, server := range found.Writing {
			all = append(all, fmt.Sprintf("%s (timeline %d)", server.Name, server.Timeline))
		}
		if found.Missing > 0 {
			all = append(all, fmt.Sprintf("a server that this node cannot reach (timeline %d)", found.Missing))
		}
		current = strings.Join(all, ", ")
	}
	switch {
	case current == said:
	case current == "":
		s.log.InfoContext(ctx, "one writable database server again")
	default:
		s.log.ErrorContext(ctx, "several database servers accept writes; using the latest timeline only",
			"hint", "stop the others and make them replicas of it", "servers", current)
	}
	return current
}

// primaries returns the number of database servers that accept writes, as last seen by this node.
func (s *Server) primaries() int {
	if found := s.writing.Load(); found != nil {
		return found.Primaries()
	}
	return 0
}
