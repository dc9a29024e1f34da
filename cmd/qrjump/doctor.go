package main

import (
	"bufio"
	"bytes"
	"cmp"
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
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/spelling"
	"github.com/qrjump/qrjump/internal/verification"
	"github.com/qrjump/qrjump/internal/version"
)

type doctorCommand struct {
	operator
	languageFlags
	Config    string        `env:"QRJUMP_CONFIG" placeholder:"FILE" help:"The configuration that the server is started with (serve --config)." file:"in"`
	Node      []string      `placeholder:"URL" help:"Address of the admin API of another node: it is asked as well how far it is behind. Repeat it for more."`
	Backups   string        `placeholder:"PATH" help:"An export, or the folder where exports are put: the newest is looked at."`
	BackupAge time.Duration `default:"48h" placeholder:"TIME" help:"How old the newest export may be (${default})."`
}

// Run looks at everything that can be looked at from here, and changes nothing.
func (c *doctorCommand) Run(s *session) error {
	v := walk{}
	config, err := c.config(s)
	if err != nil {
		v.fail("configuration", server.Said(err.Error()), say("mend it: the server would not start"))
	}
	v.variables(s)
	running, reached := c.server(s, &v)
	// The folder of a server on this machine; of another there is none here.
	config.Data = cmp.Or(c.Data, config.Data)
	if config.Data == "" && isFolder("qrjump-data") && !c.elsewhere(reached) {
		config.Data = "qrjump-data"
	}
	if config.Data != "" {
		v.found = append(v.found, server.Examine(s.ctx, config, running)...)
	}
	c.nodes(s, &v)
	c.backups(&v)
	return v.diagnosis(s, c.outputFlags, c.languageFlags)
}

// walk is what was looked at so far.
type walk struct{ found []server.Finding }

// say are words that doctor_chinese.go says in Chinese.
func say(text string, of ...any) server.Words { return server.Say(text, of...) }

func (v *walk) pass(about string, detail server.Words) {
	v.found = append(v.found, server.Finding{About: about, OK: true, Detail: detail})
}

func (v *walk) warn(about string, detail, next server.Words) {
	v.found = append(v.found, server.Finding{About: about, OK: true, Warns: true, Detail: detail, Next: next})
}

func (v *walk) fail(about string, detail, next server.Words) {
	v.found = append(v.found, server.Finding{About: about, Detail: detail, Next: next})
}

// diagnosis prints what was found, for programs in English, and fails where something is wrong.
func (v *walk) diagnosis(s *session, o outputFlags, l languageFlags) error {
	wrong, warned, steps := 0, 0, []verification.Step{}
	for _, f := range v.found {
		if !f.OK {
			wrong++
		} else if f.Warns {
			warned++
		}
		steps = append(steps, verification.Step{Did: f.About, OK: f.OK, Warns: f.Warns, Detail: f.Detail.String(), Next: f.Next.String()})
	}
	err := o.print(s, map[string]any{"ok": wrong == 0, "checks": steps}, func(w io.Writer) {
		for i, f := range v.found {
			fmt.Fprintf(w, "%-3s %s %s\n", markOf(steps[i]), l.about(f.About), plain(l.words(f.Detail)))
			if next := l.words(f.Next); next != "" {
				fmt.Fprintf(w, "    %-13s   %s\n", "", plain(next))
			}
		}
		if wrong == 0 {
			fmt.Fprintln(w, l.words(say("nothing is wrong: %s, %s", amount{len(steps), "check"}, amount{warned, "remark"})))
		}
	})
	if err == nil && wrong > 0 {
		err = errors.New(l.words(say("%d of %s found something wrong", wrong, amount{len(steps), "check"})))
	}
	return err
}

// config reads the configuration as serve does.
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

// otherVariables are read by no flag.
var otherVariables = []string{"QRJUMP_CONTEXTS", "QRJUMP_MASTER_KEY"}

// variables looks for variables of the environment that nothing reads.
func (v *walk) variables(s *session) {
	known := slices.Clone(otherVariables)
	for _, verb := range s.everything().Leaves(false) {
		for _, f := range verb.Flags {
			known = append(known, f.Envs...)
		}
	}
	unread := false
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "QRJUMP_") && !slices.Contains(known, name) {
			unread = true
			nobody := say("nothing reads the variable %s", name)
			if nearest := spelling.Nearest(name, known...); nearest != "" {
				nobody = say("nothing reads the variable %s: did you mean %s?", name, nearest)
			}
			v.warn("configuration", nobody, say("rename it, or unset it"))
		}
	}
	if !unread {
		v.pass("configuration", say("every variable QRJUMP_… is one that is read"))
	}
}

// elsewhere reports whether the server that was asked for is not the one of the
// folder here.
func (c *doctorCommand) elsewhere(reached string) bool {
	asked := cmp.Or(c.AdminServer, c.Server, reached)
	here, err := server.ReadAddresses("qrjump-data")
	return asked != "" && (err != nil || !slices.ContainsFunc([]string{here.Wire, here.Scan, here.Admin},
		func(url string) bool { return sameServer(url, asked) }))
}

// server asks a running server; reached is its address, "" where none answered.
func (c *doctorCommand) server(s *session, v *walk) (running bool, reached string) {
	named := c.Server != "" || c.AdminServer != ""
	if _, err := os.Stat(filepath.Join(c.Data, "addresses.json")); c.Data != "" && !named && isFolder(c.Data) &&
		errors.Is(err, fs.ErrNotExist) {
		v.warn("server", say("none runs in %s", c.Data), say("start it: qrjump serve --data %s", c.Data))
		return false, ""
	}
	lost := func(err error) (bool, string) {
		happened := server.Said(err.Error())
		if u, ok := errors.AsType[*client.Unreachable](err); ok {
			happened = say("no answer from %s: %v", u.URL, u.Err)
		}
		next, _ := remedy(err)
		v.fail("server", happened, server.Words{Text: strings.ReplaceAll(next, "%", "%%")})
		return false, ""
	}
	at, token, err := c.admin(c.adminFlags)
	if err != nil {
		return lost(err)
	}
	d, err := c.talk(s, at.url, token)
	if err != nil {
		return lost(err)
	}
	began := time.Now()
	alive, err := d.get("/healthz")
	if err != nil {
		return lost(&client.Unreachable{URL: at.url, Err: err})
	}
	if alive.status != http.StatusOK || string(alive.body) != "ok\n" {
		if wantsTLS(string(alive.body)) {
			v.fail("server", say("%s does not answer plain HTTP", at.url), say(writeHTTPS))
		} else {
			v.fail("server", say("%s answers, and is no qrjump", at.url), say("name the server: %s", whereFlags))
		}
		return false, ""
	}
	v.pass("server", say("%s answers", at.url))
	if alive.tls != nil {
		v.found = append(v.found, server.CertificateFinding(*alive.tls, at.url))
	}
	v.clock(alive.header.Get("Date"), began, time.Now())
	v.ready(d)
	v.version(d)
	v.metrics(d)
	v.credentials(d)
	v.nodes(d)
	v.drills(d)
	return true, at.url
}

// nodes asks the nodes that --node names what only each of them knows: how far it is behind.
func (c *doctorCommand) nodes(s *session, v *walk) {
	for _, url := range c.Node {
		one := walk{}
		c.node(s, &one, url)
		for _, f := range one.found {
			f.Detail = say("%s: %s", url, f.Detail)
			v.found = append(v.found, f)
		}
	}
}

func (c *doctorCommand) node(s *session, v *walk, url string) {
	if isPlatform(url) {
		v.fail("nodes", say("this is the real platform, which is no node"), say("name a node of your own"))
		return
	}
	token, err := c.token(c.adminFlags, url)
	d := dialogue{}
	if err == nil {
		d, err = c.talk(s, url, token)
	}
	if err == nil {
		_, err = d.get("/healthz")
	}
	if err != nil {
		v.fail("nodes", say("it does not answer: %s", err), say("start it, or name it as --admin-listen of its server says"))
		return
	}
	v.ready(d)
	v.version(d)
	v.metrics(d)
	v.credentials(d)
}

// talk is a dialogue with the server at an address.
func (c *doctorCommand) talk(s *session, url, token string) (dialogue, error) {
	d := dialogue{s: s, base: strings.TrimSuffix(url, "/"), token: token, http: &http.Client{Timeout: 10 * time.Second}}
	if file := c.authority(url); file != "" {
		transport, err := trusting(file)
		if err != nil {
			return d, err
		}
		d.http.Transport = transport
	}
	return d, nil
}

// dialogue asks one server.
type dialogue struct {
	s           *session
	base, token string
	http        *http.Client
}

type said struct {
	status int
	header http.Header
	body   []byte
	tls    *time.Time // until when the certificate holds; nil = none
}

func (d dialogue) get(path string) (said, error) {
	r, err := http.NewRequestWithContext(d.s.ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return said{}, err
	}
	if d.token != "" && (path == "/metrics" || strings.HasPrefix(path, "/admin/")) {
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	answer, err := d.http.Do(r)
	if err != nil {
		return said{}, err
	}
	defer answer.Body.Close()
	a := said{status: answer.StatusCode, header: answer.Header}
	if answer.TLS != nil && len(answer.TLS.PeerCertificates) > 0 {
		a.tls = &answer.TLS.PeerCertificates[0].NotAfter
	}
	a.body, err = io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	return a, err
}

// clock compares the server's clock with that of this machine.
func (v *walk) clock(date string, before, after time.Time) {
	const most = 5 * time.Second
	theirs, err := http.ParseTime(date)
	switch {
	case err != nil:
		v.warn("clock", say("the server does not say what time it is"), server.Words{})
	case theirs.Before(before.Add(-most)), theirs.After(after.Add(most)):
		v.fail("clock", say("the server says %s, and here it is %s", theirs.UTC().Format(time.RFC3339), after.UTC().Format(time.RFC3339)),
			say("let both machines follow a time server: tokens, quotas and tickets depend on it"))
	default:
		v.pass("clock", say("the server and this machine agree, within %s", most))
	}
}

func (v *walk) ready(d dialogue) {
	a, err := d.get("/readyz")
	first, rest, _ := strings.Cut(strings.TrimSpace(string(a.body)), "\n")
	switch {
	case err != nil:
		v.fail("ready", server.Said(err.Error()), server.Words{})
	case a.status != http.StatusOK:
		v.fail("ready", say("the server is not ready: %s", first), say("look into its log; a load balancer sends it nothing meanwhile"))
	case rest != "":
		v.fail("ledger", server.Said(rest), server.Words{})
	default:
		v.pass("ready", say("the database answers and takes changes, and scans can be written down"))
	}
}

func (v *walk) version(d dialogue) {
	a, err := d.get("/openapi.json")
	var document struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &document) != nil {
		v.warn("version", say("the server does not say which version it is"), server.Words{})
		return
	}
	if theirs := document.Info.Version; theirs != version.Number() {
		v.warn("version", say("the server is %s, this program is %s", theirs, version.Number()), say("use the same on both sides"))
		return
	}
	v.pass("version", say("the server and this program are %s", version.Number()))
}

// gauge is a metric that must be small.
type gauge struct {
	name, about string
	most        float64
	says, next  string
	warns       bool
}

var gauges = []gauge{
	{name: "qrjump_follow_lag_seconds", about: "lag", most: 10, says: "this node is %.0f seconds behind the changes of others",
		next: "look into its log, and at the database"},
	{name: "qrjump_index_age_seconds", about: "lag", most: 5, says: "scans are answered from what was known %.0f seconds ago",
		next: "the database does not answer: look at it"},
	{name: "qrjump_scans_behind", about: "ledger", most: 10_000, says: "%.0f scans of this node are not in the ledger yet",
		next: "look into its log: the database or the stream takes them too slowly"},
	{name: "qrjump_scans_lacking", about: "ledger", says: "the ledger lacks %.0f scans that were counted",
		next: "put back the files of scans if you have them"},
	{name: "qrjump_scans_damaged_total", about: "ledger", says: "%.0f scans in the journal cannot be read", next: "look at the disk"},
	{name: "qrjump_scans_gone_total", about: "ledger", says: "the stream lost %.0f scans", next: "look at the stream"},
	{name: "qrjump_scans_unrecorded_total", about: "ledger", says: "%.0f scans were not written down since the server started",
		next: "look into its log", warns: true},
	{name: "qrjump_call_log_dropped_total", about: "store", says: "the log of calls lost %.0f calls since the server started",
		next: "the database was too slow: look at it", warns: true},
	{name: "qrjump_verification_files_failing", about: "rules", says: "%.0f verification files are not in place any more",
		next: "they are listed by: qrjump recheck list --failing; why, says: qrjump verify PREFIX", warns: true},
	{name: "qrjump_connections_cut_total", about: "server", says: "%.0f idle connections were cut to make room",
		next: "let it open more files (LimitNOFILE, ulimit -n)", warns: true},
}

// metrics judges what the server measures of itself.
func (v *walk) metrics(d dialogue) {
	a, err := d.get("/metrics")
	if err != nil || a.status != http.StatusOK {
		v.warn("metrics", say("the server does not show its metrics: how it keeps up is not known"),
			say("give the operator's token: --admin-token, or --data DIR on its machine"))
		return
	}
	values := measured(a.body)
	bad := map[string]bool{}
	for _, g := range gauges {
		value, there := values[g.name]
		if !there || value <= g.most {
			continue
		}
		if bad[g.about] = true; g.warns {
			v.warn(g.about, say(g.says, value), say(g.next))
		} else {
			v.fail(g.about, say(g.says, value), say(g.next))
		}
	}
	if !bad["lag"] {
		v.pass("lag", say("scans are answered from every change that was made"))
	}
	if !bad["ledger"] {
		v.pass("ledger", say("every scan is written down: %.0f wait", values["qrjump_scans_behind"]+values["qrjump_scans_waiting"]))
	}
	if values["qrjump_database_hosts"] > 1 && values["qrjump_database_replicas"] == 0 {
		v.warn("store", say("no replica confirms changes, although --database names several servers"),
			say("let one follow, and set synchronous_standby_names on every server"))
	}
	if values["qrjump_admin_plain"] > 0 {
		v.fail("server", say("other machines reach the admin API in plain HTTP, where its token can be read on the way"),
			say("start it with --admin-listen 127.0.0.1:8082, or with --tls-cert FILE --tls-key FILE"))
	}
	if open, most := values["process_open_fds"], values["process_max_fds"]; most > 0 && open > most*0.8 {
		v.fail("server", say("%.0f of %.0f files are open", open, most), say("let it open more (LimitNOFILE, ulimit -n)"))
	}
}

// measured sums the values of each metric.
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

// refusedOften is how often a credential was wrong that keeps failing: one that somebody mistyped is nobody's trouble.
const refusedOften = 3

// wrongCredential says which credential keeps failing, and what to do; as far as that is known, whose it should be.
func wrongCredential(one client.RefusedCredential) (what, next server.Words) {
	switch one.What {
	case "admin_token":
		what, next = say("a wrong admin token"), say("give the program there a key that is good: qrjump admin-key add NAME")
		if one.Name != "" {
			what = say("the admin key %s, which is none any more,", one.Name)
		}
	case "scan_key":
		what, next = say("a wrong scan key"), say("give the app there a key that is good: qrjump scan-key add NAME")
		if one.Name != "" {
			what = say("the scan key %s, which is none any more,", one.Name)
		}
	case "app_secret":
		what = say("a wrong AppSecret of %s", one.Name)
		next = say("give the program there the secret of its account, or set another one: qrjump account put")
	case "person":
		what = say("a wrong password of %s", one.Name)
		next = say("ask this person; where it was nobody you know, close the console to that address")
	case "login_link":
		what, next = say("a sign-in link that is none any more"), say("send a new one: qrjump login-link NAME")
	default:
		what, next = say("a sign-in at the provider that lets nobody in"), say("the server's log says why: look there")
	}
	return what, next
}

// credentials names addresses and keys that keep failing.
func (v *walk) credentials(d dialogue) {
	a, err := d.get("/admin/v1/refused-credentials")
	var list client.RefusedCredentialList
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
		return // without the token, which was said
	}
	found := false
	for _, one := range list.Credentials {
		if one.Times < refusedOften {
			continue
		}
		found = true
		what, next := wrongCredential(one)
		v.warn("credentials", say("%s came %d times from %s, the last %s", what, one.Times, one.IP, when(one.Last)), next)
	}
	if !found {
		v.pass("credentials", say("no token, key or secret keeps failing"))
	}
}

// nodes looks for nodes whose scans did not arrive.
func (v *walk) nodes(d dialogue) {
	a, err := d.get("/admin/v1/scan-nodes")
	var list struct {
		Nodes []struct {
			Node    string    `json:"node"`
			Name    string    `json:"name"`
			Stopped bool      `json:"stopped"`
			Behind  int64     `json:"behind"`
			SeenAt  time.Time `json:"seen_at"`
		} `json:"nodes"`
	}
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
		return // without the token, which was said
	}
	now, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	most := int64(0)
	for _, n := range list.Nodes {
		most = max(most, n.Behind)
		switch {
		case n.Stopped && n.Behind > 0:
			v.fail("nodes", say("node %s (%s): %d scans are not in the ledger, and it has stopped", n.Name, n.Node, n.Behind),
				say("start it, or give its scans up: qrjump scan-node forget %s", n.Node))
		case n.Behind > 10_000:
			v.fail("nodes", say("node %s (%s): %d scans are not in the ledger", n.Name, n.Node, n.Behind), say("look into its log"))
		case !n.Stopped && now.Sub(n.SeenAt) > server.NodeSilence:
			v.warn("nodes", say("node %s (%s) was last heard of %s, and did not stop in order", n.Name, n.Node, when(n.SeenAt)),
				say("start it; where it never comes back: qrjump scan-node forget %s", n.Node))
		}
	}
	if len(list.Nodes) > 0 {
		v.pass("nodes", say("%s known, the furthest behind by %s", amount{len(list.Nodes), "node"}, amount{int(most), "scan"}))
	}
}

// drills looks at what the last restore drill found.
func (v *walk) drills(d dialogue) {
	a, err := d.get("/admin/v1/changes?newest=true&limit=1&kind=drill")
	var list struct{ Changes []client.Change }
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
		return // without the token, which was said
	}
	next := say("prove that a backup restores: qrjump drill FILE --note")
	if len(list.Changes) == 0 {
		v.warn("backups", say("no drill of a backup is noted on this server"), next)
		return
	}
	last := list.Changes[0]
	if last.Did != "restored" {
		v.fail("backups", say("the last drill, of %s by %s, failed", when(last.At), last.Actor), next)
		return
	}
	v.pass("backups", say("the last drill, of %s by %s, restored its archive", when(last.At), last.Actor))
}

// backups looks at the newest export.
func (c *doctorCommand) backups(v *walk) {
	next := say("make one: qrjump export FILE --passphrase-file FILE")
	if c.Backups == "" {
		v.warn("backups", say("nothing here knows where exports are put"), say("name the folder: --backups DIR; %s", next))
		return
	}
	files := []string{c.Backups}
	if isFolder(c.Backups) {
		files, _ = filepath.Glob(filepath.Join(c.Backups, "*.tar.gz"))
	}
	var newest os.FileInfo
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && (newest == nil || info.ModTime().After(newest.ModTime())) {
			newest = info
		}
	}
	if newest == nil {
		v.fail("backups", say("there is no export at %s", c.Backups), next)
		return
	}
	age := time.Since(newest.ModTime())
	says := say("the newest export is %s, %s old, %d bytes", newest.Name(), age.Round(time.Minute), newest.Size())
	switch {
	case newest.Size() == 0:
		v.fail("backups", say("%s is empty", newest.Name()), next)
	case age > c.BackupAge:
		v.fail("backups", says, next)
	default:
		v.pass("backups", say("%s; that it restores, only qrjump drill proves", says))
	}
}
