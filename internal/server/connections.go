package server

import (
	"cmp"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/infra/connlimit"
)

// openConnectionLimits sets the maximum numbers of connections of the public listeners and of the admin listener.
func (s *Server) openConnectionLimits() {
	separate := false
	for _, on := range s.config.listeners() {
		separate = separate || on.serves == admin
	}
	files := connlimit.Files()
	public, admin := connlimit.Budget(files, separate)
	public = cmp.Or(s.seams.Connections, public)
	s.serving.rooms = map[bool]*connlimit.Limiter{false: connlimit.New(public), true: connlimit.New(admin)}
	if files < 1024 {
		s.log.Warn("open file limit is low", "hint", "raise ulimit -n or LimitNOFILE for more connections", "files", files,
			"connections", public+admin)
	}
	for separate, name := range map[bool]string{false: "public", true: "admin"} {
		r, labels := s.serving.rooms[separate], prometheus.Labels{"listener": name}
		s.metrics.registry.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qrjump_connections", Help: help("qrjump_connections"), ConstLabels: labels},
				func() float64 { return float64(r.Open()) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "qrjump_connections_evicted_total", Help: help("qrjump_connections_evicted_total"), ConstLabels: labels},
				func() float64 { return float64(r.Evicted()) }))
	}
}

// bound wraps a listener with a connection limit: the one of the admin listener, or the one that all public listeners share.
func (s *Server) bound(l net.Listener, role listenerRole) net.Listener {
	return s.serving.rooms[role == admin].Listener(l, s.seams.RefusedTime)
}
