package server

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// metrics holds the Prometheus metrics of a server. Label values are endpoints, errcodes and actions, of which the program has a fixed
// number; accounts and links are never label values.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	scans    *prometheus.CounterVec
	gs1      *prometheus.CounterVec
	confirms *prometheus.CounterVec
	opened   map[scan.Action]prometheus.Counter // of scans
	lost     *prometheus.CounterVec

	guesses *prometheus.CounterVec
	sends   *prometheus.CounterVec

	lane, handed prometheus.Counter
	adminPlain   prometheus.Gauge

	mu       sync.RWMutex // guards outcomes
	outcomes map[outcome]counted
}

// Metric returns the description of a metric.
func Metric(name string) i18n.Message { return localized(name) }

func help(name string) string { return Metric(name).String() }

func metric(name string) prometheus.Opts { return prometheus.Opts{Name: name, Help: help(name)} }

// number is the type of a value that a metric shows.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// watchGauge registers a gauge whose value f returns at each scrape.
func watchGauge[N number](m *metrics, name string, f func() N) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric(name)), func() float64 { return float64(f()) }))
}

// watchCount registers a counter whose value f returns at each scrape.
func watchCount[N number](m *metrics, name string, f func() N) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts(metric(name)), func() float64 { return float64(f()) }))
}

// timely returns the value of f, which may take a second; NaN after an error.
func timely[N number](f func(context.Context) (N, error)) func() float64 {
	return func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n, err := f(ctx)
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	}
}

// Registered returns the metrics that this server registered.
func (s *Server) Registered() *prometheus.Registry { return s.metrics.registry }

func newMetrics() *metrics {
	m := &metrics{
		outcomes: map[outcome]counted{},
		registry: prometheus.NewRegistry(),
		calls:    prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_api_requests_total")), []string{"endpoint", "errcode"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qrjump_api_request_duration_seconds", Help: help("qrjump_api_request_duration_seconds"),
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"endpoint"}),
		scans:    prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_scans_total")), []string{"action"}),
		confirms: prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_domain_verifications_total")), []string{"result"}),
	}
	m.opened = map[scan.Action]prometheus.Counter{}
	for _, action := range []scan.Action{scan.OpenMiniProgram, scan.OpenURL, scan.ShowText, scan.ShowMessage} {
		m.opened[action] = m.scans.WithLabelValues(string(action))
	}
	m.lost = prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_scan_write_failures_total")), []string{"cause"})
	for _, cause := range []string{scanapi.UnrecordedFull, scanapi.UnrecordedFailed} {
		m.lost.WithLabelValues(cause)
	}
	m.guesses = prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_auth_failures_total")), []string{"kind", "result"})
	for _, d := range credentialKinds {
		for _, answer := range []string{"wrong", "refused"} {
			m.guesses.WithLabelValues(d.name, answer)
		}
	}
	m.sends = prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_outbox_attempts_total")), []string{"queue", "result"})
	m.lane = prometheus.NewCounter(prometheus.CounterOpts(metric("qrjump_scan_fastpath_requests_total")))
	m.gs1 = prometheus.NewCounterVec(prometheus.CounterOpts(metric("qrjump_gs1_requests_total")), []string{"status"})
	m.handed = prometheus.NewCounter(prometheus.CounterOpts(metric("qrjump_scan_fastpath_fallbacks_total")))
	m.adminPlain = prometheus.NewGauge(prometheus.GaugeOpts(metric("qrjump_admin_insecure")))
	m.registry.MustRegister(m.adminPlain, m.calls, m.seconds, m.scans, m.confirms, m.lost, m.guesses, m.sends, m.lane, m.gs1, m.handed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// countAttempt counts an attempt to send a row of the outbox.
func (m *metrics) countAttempt(kind outbox.Kind, taken bool) {
	result := "failed"
	if taken {
		result = "delivered"
	}
	m.sends.WithLabelValues(string(kind), result).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// outcome is an endpoint and the errcode of a response, as metric labels.
type outcome struct {
	endpoint string
	errcode  int
}

// counted holds the metrics of the calls with one outcome: their number and their durations.
type counted struct {
	calls   prometheus.Counter
	seconds prometheus.Observer
}

// observeCall counts a call; it looks up the labels only once for each outcome.
func (m *metrics) observeCall(endpoint string, errcode int, d time.Duration) {
	k := outcome{endpoint, errcode}
	m.mu.RLock()
	c, known := m.outcomes[k]
	m.mu.RUnlock()
	if !known {
		if endpoint == "" {
			endpoint = "unknown"
		}
		c = counted{m.calls.WithLabelValues(endpoint, strconv.Itoa(errcode)), m.seconds.WithLabelValues(endpoint)}
		m.mu.Lock()
		m.outcomes[k] = c
		m.mu.Unlock()
	}
	c.calls.Inc()
	c.seconds.Observe(d.Seconds())
}

func (m *metrics) observeScan(action scan.Action) { m.opened[action].Inc() }

func (m *metrics) observeUnrecorded(cause string) { m.lost.WithLabelValues(cause).Inc() }
