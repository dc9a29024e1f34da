package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/suggest"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/server"
)

type doctorCommand struct {
	operator
	Config    string        `env:"QRJUMP_CONFIG" placeholder:"FILE" file:"in"`
	Node      []string      `placeholder:"URL"`
	Backups   string        `placeholder:"PATH"`
	BackupAge time.Duration `default:"48h" placeholder:"TIME"`
	Report    string        `placeholder:"FILE" file:"out"`
	Deep      bool
}

// Run makes all checks that are possible from this machine, and changes nothing.
func (c *doctorCommand) Run(s *session) error {
	v := walk{}
	config, err := c.config(s)
	if err != nil {
		v.Fail("configuration", i18n.Literal(err.Error()), msg("doctor.config.next"))
	}
	v.variables(s)
	running, reached := c.server(s, &v)
	// Without --data, the default folder is checked, unless the checked server uses another folder.
	config.Data = cmp.Or(c.Data, config.Data)
	if config.Data == "" && isFolder("qrjump-data") && !c.isOtherServer(reached) {
		config.Data = "qrjump-data"
	}
	if config.Data != "" {
		v.List = append(v.List, server.Preflight(s.ctx, config, running)...)
	}
	c.nodes(s, &v)
	if err := s.ctx.Err(); err != nil {
		return err // no diagnosis is printed, because interrupted checks prove nothing
	}
	c.backups(&v)
	if c.Deep {
		c.deep(s, &v)
	}
	if c.Report != "" {
		if err := c.report(s, v); err != nil {
			return failed(tr("doctor.write_report"), c.Report, err)
		}
	}
	return v.diagnosis(s, c.outputFlags)
}

// walk collects the findings of the checks.
type walk struct {
	server.Findings
	slow       []byte   // Slow statements of the server's database as JSON, for a report; nil = not known.
	goroutines []string // Stacks of the server's goroutines without arguments, for a report; nil = not known.
}

// steps converts the findings to steps of a check, which is the type that the server's responses contain.
func (v *walk) steps() []verification.Step {
	return mapped(v.List, func(f server.Finding) verification.Step {
		return verification.Step{Action: i18n.Literal(f.About), OK: f.OK, Warning: f.Warns, Detail: f.Detail, Hint: f.Next}
	})
}

// diagnosis prints the findings and returns an error if a check failed; JSON output is in English.
func (v *walk) diagnosis(s *session, o outputFlags) error {
	wrong, warned, steps := 0, 0, v.steps()
	for _, f := range v.List {
		if !f.OK {
			wrong++
		} else if f.Warns {
			warned++
		}
	}
	err := o.print(s, map[string]any{"ok": wrong == 0, "checks": steps}, nil, func(w io.Writer) {
		for i, f := range v.List {
			fmt.Fprintf(w, "%-3s %s %s\n", markOf(steps[i]), inColumn(s.msg(msg("about."+f.About)), 13), plain(s.msg(f.Detail)))
			if next := s.msg(f.Next); next != "" {
				fmt.Fprintf(w, "    %-13s   %s\n", "", plain(next))
			}
		}
		if wrong == 0 {
			fmt.Fprintln(w, s.msg(msg("doctor.nothing", msg("count.check", len(steps)), msg("count.remark", warned))))
		}
	})
	if err == nil && wrong > 0 {
		err = errors.New(s.msg(msg("doctor.wrong", wrong, msg("count.check", len(steps)))))
	}
	return err
}

// config reads the configuration in the same way as the serve command.
func (c *doctorCommand) config(s *session) (server.Config, error) {
	key := os.Getenv("QRJUMP_MASTER_KEY")
	if c.Config == "" {
		return server.Config{Database: os.Getenv("QRJUMP_DATABASE"), TLSCert: os.Getenv("QRJUMP_TLS_CERT"),
			TLSKey: os.Getenv("QRJUMP_TLS_KEY"), MasterKey: key}, nil
	}
	var all commands
	parser, err := newParser(*s, &all)
	if err != nil {
		return server.Config{}, err
	}
	chosen, err := parser.Parse([]string{"serve", "--config", c.Config})
	if err == nil {
		err = readConfig(c.Config, chosen)
	}
	serve := all.Serve
	return server.Config{Data: serve.Data, Database: serve.Database, TLSCert: serve.TLSCert, TLSKey: serve.TLSKey, MasterKey: key}, err
}

// otherVariables lists the environment variables that are read directly, without a flag.
var otherVariables = []string{"QRJUMP_CONTEXTS", "QRJUMP_MASTER_KEY"}

// variables warns about QRJUMP_ environment variables that the program does not read.
func (v *walk) variables(s *session) {
	known := slices.Clone(otherVariables)
	for _, verb := range s.fullManual().Leaves(false) {
		for _, f := range verb.Flags {
			known = append(known, f.Envs...)
		}
	}
	unread := false
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "QRJUMP_") && !slices.Contains(known, name) {
			unread = true
			message := msg("doctor.variable", name)
			if nearest := suggest.Nearest(name, known...); nearest != "" {
				message = msg("doctor.variable.meant", name, nearest)
			}
			v.Warn("configuration", message, msg("doctor.variable.next"))
		}
	}
	if !unread {
		v.Pass("configuration", msg("doctor.variables"))
	}
}

// isOtherServer reports whether the checked server uses another data folder than ./qrjump-data.
func (c *doctorCommand) isOtherServer(reached string) bool {
	asked := cmp.Or(c.AdminServer, c.Server, reached)
	addrs, err := server.ReadAddresses("qrjump-data")
	return asked != "" && (err != nil || !listensAt(addrs, asked))
}

// server checks a running server; reached is its address, or "" if the server did not respond.
func (c *doctorCommand) server(s *session, v *walk) (running bool, reached string) {
	named := c.Server != "" || c.AdminServer != ""
	if _, err := os.Stat(filepath.Join(c.Data, "addresses.json")); c.Data != "" && !named && isFolder(c.Data) &&
		errors.Is(err, fs.ErrNotExist) {
		v.Warn("server", msg("doctor.none", c.Data), msg("doctor.none.next", shellWord(c.Data)))
		return false, ""
	}
	lost := func(err error) (bool, string) {
		happened := i18n.Literal(err.Error())
		if u, ok := errors.AsType[*client.Unreachable](err); ok {
			happened = msg("doctor.no_answer", u.URL, u.Err)
		}
		next, _ := remedy(err)
		v.Fail("server", happened, next)
		return false, ""
	}
	loc, token, err := c.admin(c.adminFlags)
	if err != nil {
		return lost(err)
	}
	d, err := c.probe(s, loc.url, token)
	if err != nil {
		return lost(err)
	}
	began := time.Now()
	alive, err := d.get("/healthz")
	if err != nil {
		return lost(&client.Unreachable{URL: loc.url, Err: err})
	}
	if alive.status != http.StatusOK || string(alive.body) != "ok\n" {
		if wantsTLS(string(alive.body)) {
			v.Fail("server", msg("doctor.no_plain", loc.url), msg("reach.https"))
		} else {
			v.Fail("server", msg("doctor.stranger", loc.url), msg("reach.name", serverFlagNames))
		}
		return false, ""
	}
	v.Pass("server", msg("doctor.answers", loc.url))
	if alive.tls != nil {
		v.List = append(v.List, server.CertificateFinding(*alive.tls, loc.url))
	}
	v.operator(d, loc.flag == "admin-server" || token != "")
	v.clock(alive.header.Get("Date"), began, time.Now())
	v.ready(d)
	v.version(d)
	v.metrics(d)
	if c.Report != "" {
		if a, err := d.get("/debug/pprof/goroutine?debug=1"); err == nil && a.status == http.StatusOK {
			v.goroutines = strings.Split(string(a.body), "\n")
		}
		if a, err := d.get("/debug/slow-statements"); err == nil && a.status == http.StatusOK && json.Valid(a.body) {
			v.slow = a.body
		}
	}
	v.credentials(d)
	v.nodes(d)
	v.drills(d)
	v.orders(d)
	return true, loc.url
}

// nodes sends requests to each node of the flag --node, because only the node itself knows facts such as its replication lag.
func (c *doctorCommand) nodes(s *session, v *walk) {
	for _, url := range c.Node {
		w := walk{}
		c.node(s, &w, url)
		for _, f := range w.List {
			f.Detail = msg("doctor.of", url, f.Detail)
			v.List = append(v.List, f)
		}
	}
}

func (c *doctorCommand) node(s *session, v *walk, url string) {
	if isPlatform(url) {
		v.Fail("nodes", msg("doctor.platform"), msg("doctor.platform.next"))
		return
	}
	token, err := c.token(c.adminFlags, url)
	d := serverProbe{}
	if err == nil {
		d, err = c.probe(s, url, token)
	}
	if err == nil {
		_, err = d.get("/healthz")
	}
	if err != nil {
		v.Fail("nodes", msg("doctor.node.silent", err), msg("doctor.node.silent.next"))
		return
	}
	v.operator(d, true)
	v.ready(d)
	v.version(d)
	v.metrics(d)
	v.credentials(d)
}

// probe returns a serverProbe for the server at an address.
func (c *doctorCommand) probe(s *session, url, token string) (serverProbe, error) {
	d := serverProbe{s: s, base: strings.TrimSuffix(url, "/"), token: token, http: &http.Client{Timeout: 10 * time.Second}}
	if file := c.authority(url); file != "" {
		transport, err := trusting(file)
		if err != nil {
			return d, err
		}
		d.http.Transport = transport
	}
	return d, nil
}

// serverProbe sends requests to one server.
type serverProbe struct {
	s           *session
	base, token string
	http        *http.Client
}

type statement struct {
	status int
	header http.Header
	body   []byte
	tls    *time.Time // The expiry time of the server's certificate; nil without TLS.
}

func (d serverProbe) get(path string) (statement, error) {
	r, err := http.NewRequestWithContext(d.s.ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return statement{}, err
	}
	if d.token != "" && (path == "/metrics" || strings.HasPrefix(path, "/admin/") || strings.HasPrefix(path, "/debug/")) {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	answer, err := d.http.Do(r)
	if err != nil {
		return statement{}, err
	}
	defer answer.Body.Close()
	a := statement{status: answer.StatusCode, header: answer.Header}
	if answer.TLS != nil && len(answer.TLS.PeerCertificates) > 0 {
		a.tls = &answer.TLS.PeerCertificates[0].NotAfter
	}
	a.body, err = io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	return a, err
}

// read decodes the JSON response to a GET request into v. It returns false without a successful response; the check "operator" reports
// a missing token.
func (d serverProbe) read(path string, v any) (statement, bool) {
	a, err := d.get(path)
	return a, err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, v) == nil
}

// operator checks whether the admin API is reachable, because half of the checks need the admin API. If the user gave neither an admin
// address nor a token, operator does not report missing access, because the check of the metrics reports it.
func (v *walk) operator(d serverProbe, named bool) {
	a, err := d.get("/admin/v1/scan-nodes")
	var list client.ScanNodeList
	var problem client.Problem
	switch {
	case err != nil:
		v.FailError("server", err)
	case a.status == http.StatusOK && json.Unmarshal(a.body, &list) == nil && list.Nodes != nil, !named:
	case a.status == http.StatusUnauthorized && d.token == "":
		v.Fail("credentials", msg("doctor.token.none", d.base), msg("doctor.metrics.none.next"))
	case a.status == http.StatusUnauthorized:
		v.Fail("credentials", msg("doctor.token.refused", d.base), msg("doctor.metrics.none.next"))
	case json.Unmarshal(a.body, &problem) == nil && problem.Status == a.status && a.status != http.StatusNotFound &&
		a.status != http.StatusMisdirectedRequest:
		v.Fail("credentials", msg("doctor.token.problem", d.base, a.status, problem.Detail), msg("doctor.metrics.none.next"))
	default:
		v.Fail("server", msg("doctor.no_admin", d.base), msg("doctor.no_admin.next"))
	}
}

// clock compares the server's clock with the clock of this machine.
func (v *walk) clock(date string, before, after time.Time) {
	const timeout = 5 * time.Second
	remoteMoment, err := http.ParseTime(date)
	switch {
	case err != nil:
		v.Warn("clock", msg("doctor.clock.none"), i18n.Message{})
	case remoteMoment.Before(before.Add(-timeout)), remoteMoment.After(after.Add(timeout)):
		v.Fail("clock", msg("doctor.clock.differs", remoteMoment.UTC().Format(time.RFC3339), after.UTC().Format(time.RFC3339)),
			msg("doctor.clock.next"))
	default:
		v.Pass("clock", msg("doctor.clock", timeout))
	}
}

func (v *walk) ready(d serverProbe) {
	a, err := d.get("/readyz")
	first, rest, _ := strings.Cut(strings.TrimSpace(string(a.body)), "\n")
	switch {
	case err != nil:
		v.FailError("ready", err)
	case a.status != http.StatusOK:
		v.Fail("ready", msg("doctor.unready", first), msg("doctor.unready.next"))
	default:
		v.Pass("ready", msg("doctor.ready"))
		for line := range strings.Lines(rest) {
			switch text := i18n.Literal(strings.TrimSpace(line)); {
			case strings.HasPrefix(line, server.ReadingImport):
				v.Warn("lag", text, i18n.Message{})
			case strings.HasPrefix(line, server.Unreadable):
				v.Fail("lag", text, msg("doctor.unreadable.next"))
			default:
				v.Fail("ledger", text, i18n.Message{})
			}
		}
	}
}

func (v *walk) version(d serverProbe) {
	var document struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if _, ok := d.read("/openapi.json", &document); !ok {
		v.Warn("version", msg("doctor.version.none"), i18n.Message{})
		return
	}
	if remote := document.Info.Version; remote != version.Number() {
		v.Warn("version", msg("doctor.version.differs", remote, version.Number()), msg("doctor.version.next"))
		return
	}
	v.Pass("version", msg("doctor.version", version.Number()))
}

// gauge is a metric with the largest value that is acceptable.
type gauge struct {
	name, about string
	most        float64
	warns       bool
}

var gauges = []gauge{
	{name: "qrjump_replication_lag_seconds", about: "lag", most: 10},
	{name: "qrjump_replica_staleness_seconds", about: "lag", most: 5},
	{name: "qrjump_scan_ship_backlog", about: "ledger", most: 10_000},
	{name: "qrjump_scans_missing", about: "ledger"},
	{name: "qrjump_scans_corrupted_total", about: "ledger"},
	{name: "qrjump_scans_lost_total", about: "ledger"},
	{name: "qrjump_scan_write_failures_total", about: "ledger", warns: true},
	{name: "qrjump_call_log_dropped_total", about: "store", warns: true},
	{name: "qrjump_verification_files_failing", about: "rules", warns: true},
	{name: "qrjump_orphans", about: "store"},
	{name: "qrjump_connections_evicted_total", about: "server", warns: true},
}

// metrics checks the values of the server's own metrics.
func (v *walk) metrics(d serverProbe) {
	a, err := d.get("/metrics")
	if err != nil || a.status != http.StatusOK {
		v.Warn("metrics", msg("doctor.metrics.none"), msg("doctor.metrics.none.next"))
		return
	}
	values := measured(a.body)
	bad := map[string]bool{}
	for _, g := range gauges {
		value, exists := values[g.name]
		if !exists || value <= g.most {
			continue
		}
		next := msg("doctor." + g.name + ".next")
		if bad[g.about] = true; g.warns {
			v.Warn(g.about, msg("doctor."+g.name, value), next)
		} else {
			v.Fail(g.about, msg("doctor."+g.name, value), next)
		}
	}
	if !bad["lag"] {
		v.Pass("lag", msg("doctor.lag.none"))
	}
	if !bad["ledger"] {
		v.Pass("ledger", msg("doctor.ledger", values["qrjump_scan_ship_backlog"]+values["qrjump_scan_queue_length"]))
	}
	if n := values["qrjump_db_primaries"]; n > 1 {
		v.Fail("store", msg("doctor.primaries", n), msg("doctor.primaries.next"))
	}
	if values["qrjump_db_hosts"] > 1 && values["qrjump_db_replicas"] == 0 {
		v.Warn("store", msg("doctor.replica"), msg("doctor.replica.next"))
	}
	if values["qrjump_admin_insecure"] > 0 {
		v.Fail("server", msg("doctor.plain"), msg("doctor.plain.next"))
	}
	if open, limit := values["process_open_fds"], values["process_max_fds"]; limit > 0 && open > limit*0.8 {
		v.Fail("server", msg("doctor.files", open, limit), msg("doctor.files.next"))
	}
}

// measured returns the sum of all series of each metric, keyed by metric name.
func measured(text []byte) map[string]float64 {
	values := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:end], "{")
		if value, err := strconv.ParseFloat(line[end+1:], 64); err == nil {
			values[name] += value
		}
	}
	return values
}

// refusedOften is the number of rejections after which a credential is reported, so that a single typing error is not reported.
const refusedOften = 3

// wrongCredential returns a message about a credential that is rejected repeatedly, with its probable owner if known, and the next step.
func wrongCredential(credential client.FailedAuthentication) (message, next i18n.Message) {
	key := "doctor.refused." + credential.Kind
	if !catalog.Has(key + ".next") { // Only a newer server sends a kind that this program does not know.
		key = "doctor.refused.provider"
	}
	if named := key + ".named"; catalog.Has(named) && (credential.Name != "" || !catalog.Has(key)) {
		return msg(named, credential.Name), msg(key + ".next")
	}
	return msg(key), msg(key + ".next")
}

// credentials reports addresses and keys that are rejected repeatedly.
func (v *walk) credentials(d serverProbe) {
	var list client.FailedAuthenticationList
	if _, ok := d.read("/admin/v1/failed-authentications", &list); !ok {
		return
	}
	found := false
	for _, credential := range list.Credentials {
		if credential.Count < refusedOften {
			continue
		}
		found = true
		message, next := wrongCredential(credential)
		v.Warn("credentials", msg("doctor.credentials", message, credential.Count, credential.IP, formatTime(credential.LastAt)), next)
	}
	if !found {
		v.Pass("credentials", msg("doctor.credentials.none"))
	}
}

// nodes reports the cluster's nodes whose scans have not arrived in the common log, and silent nodes.
func (v *walk) nodes(d serverProbe) {
	var list client.ScanNodeList
	a, ok := d.read("/admin/v1/scan-nodes", &list)
	if !ok {
		return
	}
	now, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	limit := int64(0)
	for _, n := range list.Nodes {
		limit = max(limit, n.Backlog)
		switch {
		case n.StoppedCleanly && n.Backlog > 0:
			v.Fail("nodes", msg("doctor.node.stopped", n.Name, n.Node, n.Backlog), msg("doctor.node.stopped.next", n.Node))
		case n.Backlog > 10_000:
			v.Fail("nodes", msg("doctor.node.behind", n.Name, n.Node, n.Backlog), msg("doctor.log"))
		case !n.StoppedCleanly && now.Sub(n.LastSeenAt) > server.NodeSilence:
			v.Warn("nodes", msg("doctor.node.away", n.Name, n.Node, formatTime(n.LastSeenAt)), msg("doctor.node.away.next", n.Node))
		}
	}
	if len(list.Nodes) > 0 {
		v.Pass("nodes", msg("doctor.nodes", msg("count.node", len(list.Nodes)), msg("count.scan", int(limit))))
	}
}

// drills checks the result of the last restore drill.
func (v *walk) drills(d serverProbe) {
	var list struct{ Changes []client.Change }
	if _, ok := d.read("/admin/v1/changes?newest=true&limit=1&kind=drill", &list); !ok {
		return
	}
	next := msg("doctor.drill.next")
	if len(list.Changes) == 0 {
		v.Warn("backups", msg("doctor.drill.none"), next)
		return
	}
	last := list.Changes[0]
	if last.Action != "restored" {
		v.Fail("backups", msg("doctor.drill.failed", formatTime(last.OccurredAt), last.Actor), next)
		return
	}
	v.Pass("backups", msg("doctor.drill.done", formatTime(last.OccurredAt), last.Actor))
}

// orders reports orders that were approved more than a minute ago and whose codes are still not produced.
func (v *walk) orders(d serverProbe) {
	var list client.OrderList
	_, _ = d.read("/admin/v1/orders?making=true", &list)
	for _, o := range list.Orders {
		if o.DecidedAt != nil && time.Since(*o.DecidedAt) > time.Minute {
			v.Fail("orders", msg("doctor.order.stuck", o.ISV, o.Account, o.DecidedBy, formatTime(*o.DecidedAt)),
				msg("doctor.order.stuck.next", o.Account, o.Revision, o.ISV))
		}
	}
}

// isWholeGzip reports whether a file is a complete gzip file, by its checksum.
func isWholeGzip(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return err == nil
}

// backups checks the newest export.
func (c *doctorCommand) backups(v *walk) {
	next := msg("doctor.backup.next")
	if c.Backups == "" {
		v.Warn("backups", msg("doctor.backup.where"), msg("doctor.backup.where.next", next))
		return
	}
	files := []string{c.Backups}
	if isFolder(c.Backups) {
		files, _ = filepath.Glob(filepath.Join(c.Backups, "*.tar.gz"))
	}
	var newest os.FileInfo
	newestFile := ""
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && (newest == nil || info.ModTime().After(newest.ModTime())) {
			newest, newestFile = info, file
		}
	}
	if newest == nil {
		v.Fail("backups", msg("doctor.backup.none", c.Backups), next)
		return
	}
	age := time.Since(newest.ModTime())
	says := msg("doctor.backup", newest.Name(), age.Round(time.Minute), newest.Size())
	switch {
	case !isWholeGzip(newestFile):
		v.Fail("backups", msg("doctor.backup.damaged", newest.Name()), next)
	case age > c.BackupAge:
		v.Fail("backups", says, next)
	default:
		v.Pass("backups", msg("doctor.backup.unproven", says))
	}
}
