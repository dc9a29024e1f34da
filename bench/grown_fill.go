package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/store"
)

// grownSize is the size of a data folder that resembles a year of a large brand. All fields except Days and the per-batch and
// per-account numbers scale with Factor.
type grownSize struct {
	Factor                   float64
	Scans                    int
	Days                     int
	Activities, Links, Users int
	Accounts, Rules          int
	Batches, Activations     int
	Ranges                   int // withdrawn or frozen
	Changes                  int // changes of rules after the import
	CodesOfBatch             int
	RulesOfAccount           int
}

func grownSizeFor(factor float64) grownSize {
	n := func(full, minimum int) int { return max(int(float64(full)*factor+0.5), minimum) }
	s := grownSize{Factor: factor, Days: 400, Scans: n(300_000_000, 3000), Activities: n(2000, 2), Links: n(50_000, 2),
		Users: n(5_000_000, 50),
		Rules: n(10_000_000, 100), Batches: n(500, 1), Ranges: n(20_000, 2), Changes: n(3_000_000, 10), CodesOfBatch: 100_000,
		RulesOfAccount: 5}
	s.Accounts = s.Rules / s.RulesOfAccount
	s.Activations = max(n(5000, 2), s.Activities, s.Batches)
	return s
}

const (
	// accountsPerImport is the number of accounts in one import request.
	accountsPerImport = 100_000
	// grownRounds is the number of rounds, spread over the days, in which rules and codes change.
	grownRounds = 10
	grownErased = 5 // users with a known number of scans, for the erasure probe
	scansOfUser = 60
)

// grownSeed sets no rate limits, because the fill would exceed them.
const grownSeed = `accounts:
  - {appid: wxminiprogram0001, kind: mini_program, name: Coffee, secret: bench-secret0001, certified: true, versions: [release]}
  - {appid: wxserviceacct0001, kind: service_account, name: Coffee Service, secret: bench-secret0002, certified: true,
     features: [marketcode], marketcode_key: 0123456789abcdef, linked: [wxminiprogram0001]}
settings:
  rule_rate_limit: null
  default_rate_limit: null
  scan_retention_days: null
`

// grown describes a filled data folder; it is stored in the folder as grown.json.
type grown struct {
	grownSize
	Now     time.Time // time of the last scan
	Made    []grownBatch
	Scanned []grownLink
	// Erasable are users of the default namespace with scansOfUser scans each.
	Erasable []string
	// Middle and Last are ids of scans in the feed.
	Middle, Last string
	Misses       int // scans that match nothing
	OfCodes      int
	// Spent is the elapsed time of each step of the fill.
	Spent map[string]float64 // in seconds
	// Uncounted and Counted are the sizes of the database in bytes before and after the scans were aggregated.
	Uncounted, Counted int64
}

type grownBatch struct {
	ID          int64
	Activations []grownActivation
}

type grownActivation struct {
	Seq, From, To int64
	Activity      int
}

type grownLink struct {
	Rule        int64
	Owner, Text string
}

// filling fills one folder through a server in this process with a controlled clock.
type filling struct {
	grown
	set      *rulegen.Set
	data     string
	database string
	offset   atomic.Int64 // of the clock, in nanoseconds
	end      time.Time    // the real time at the start
	logf     func(format string, args ...any)
	logs     io.Writer
	users    []scanlog.UserHash // of Erasable
	server   *server.Server
	*qrjump
}

// fillGrown creates and fills a data folder. Its timestamps lie in the past: the clock of the server starts size.Days ago
// and is advanced between steps.
func fillGrown(ctx context.Context, data, database string, size grownSize, logf func(string, ...any)) (*grown, error) {
	f := &filling{grown: grown{grownSize: size, Spent: map[string]float64{}}, set: rulegen.New(size.Rules, 1), data: data,
		database: database, logf: logf}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	logs, err := os.Create(filepath.Join(data, "filling.log"))
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	f.logs = logs
	f.end = time.Now().Truncate(time.Second).UTC()
	f.Now = f.end
	began := f.end.AddDate(0, 0, -size.Days)
	f.setClock(began)
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	defer func() { f.close() }()
	if err := f.runSteps(ctx, began); err != nil {
		text, _ := os.ReadFile(logs.Name())
		return nil, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-600):])
	}
	return &f.grown, nil
}

func (f *filling) runSteps(ctx context.Context, began time.Time) error {
	day := func(n float64) time.Time { return began.Add(time.Duration(n * float64(24*time.Hour))) }
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"accounts", f.accounts},
		{"rules", func(ctx context.Context) error { f.setClock(day(0.5)); return f.rules(ctx, 0, f.Rules, "") }},
		{"batches", func(ctx context.Context) error { f.setClock(day(1)); return f.batchesAndActivations(ctx) }},
		{"links", f.links},
	}
	for round := range grownRounds {
		steps = append(steps, struct {
			name string
			do   func(context.Context) error
		}{"changes", func(ctx context.Context) error {
			f.setClock(day(2 + float64(round)*float64(f.Days-4)/grownRounds))
			from, to := f.Changes*round/grownRounds, f.Changes*(round+1)/grownRounds
			if err := f.rules(ctx, from, to, fmt.Sprintf("pages/grown/round%d", round)); err != nil {
				return err
			}
			return f.ranges(ctx, f.Ranges*round/grownRounds, f.Ranges*(round+1)/grownRounds)
		}})
	}
	steps = append(steps, []struct {
		name string
		do   func(context.Context) error
	}{
		{"users", func(ctx context.Context) error { f.setClock(f.end); return f.createErasableUsers(ctx) }},
		{"ledger", func(ctx context.Context) error { return f.scans(ctx, day(1.5)) }},
		{"counting", f.aggregate},
		{"months", f.rollUpMonths},
	}...)
	for _, step := range steps {
		started := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("filling, %s: %w", step.name, err)
		}
		f.Spent[step.name] += time.Since(started).Seconds()
		f.logf("%s: %.1f s in all", step.name, f.Spent[step.name])
	}
	return nil
}

func (f *filling) setClock(t time.Time) { f.offset.Store(int64(time.Until(t))) }

func (f *filling) now() time.Time { return time.Now().Add(time.Duration(f.offset.Load())) }

func (f *filling) start(ctx context.Context) error {
	seed := filepath.Join(f.data, "seed.yaml")
	if err := os.WriteFile(seed, []byte(grownSeed), 0o600); err != nil {
		return err
	}
	c := server.Default()
	c.Data, c.Database, c.Listen, c.AdminToken, c.Seed, c.CodePrefix = f.data, f.database, "127.0.0.1:0", adminToken, seed, "GROWN.EXAMPLE/"
	s, err := server.Start(ctx, c, f.logs, server.TestHooks{RealNow: f.now})
	if err != nil {
		return err
	}
	f.server, f.qrjump = s, &qrjump{data: f.data, url: s.URL, scanURL: s.ScanURL}
	return nil
}

func (f *filling) close() error {
	s := f.server
	if s == nil {
		return nil
	}
	f.server = nil
	return s.Close()
}

// upload streams the lines that write produces to an import endpoint.
func (q *qrjump) upload(ctx context.Context, path string, write func(*bufio.Writer) error) error {
	in, out := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(out, 1<<20)
		err := write(w)
		if err == nil {
			err = w.Flush()
		}
		out.CloseWithError(err)
	}()
	defer in.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url+"/admin/v1"+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.500s", path, res.Status, text)
	}
	return err
}

func (f *filling) accounts(ctx context.Context) error {
	for from := 0; from < f.Accounts; from += accountsPerImport {
		err := f.upload(ctx, "/import/accounts", func(w *bufio.Writer) error {
			for i := from; i < min(from+accountsPerImport, f.Accounts); i++ {
				fmt.Fprintf(w, `{"appid":%q,"kind":"mini_program","name":"Shop %d","certified":true,"versions":["release"]}`+"\n",
					rulegen.AppID(i), i)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ownerOf returns the account of a rule. There are more accounts than rulegen has, with fewer rules each.
func (s grownSize) ownerOf(number int) string { return rulegen.AppID(number / s.RulesOfAccount) }

// rules imports the rules with numbers from up to, but not including, to. If page is not empty, the import changes existing rules to
// that page.
func (f *filling) rules(ctx context.Context, from, to int, page string) error {
	return f.upload(ctx, "/import/rules", func(w *bufio.Writer) error {
		lines := json.NewEncoder(w)
		lines.SetEscapeHTML(false)
		for i := from; i < to; i++ {
			r := f.set.At(i)
			line := struct {
				Owner     string `json:"owner"`
				Prefix    string `json:"prefix"`
				Path      string `json:"path"`
				Published bool   `json:"published"`
			}{f.ownerOf(i), r.Prefix, r.Page, r.Published}
			if page != "" {
				line.Path = page
			}
			if err := lines.Encode(line); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *filling) batchesAndActivations(ctx context.Context) error {
	token, err := f.token(ctx)
	if err != nil {
		return err
	}
	done := 0
	for i := range f.Batches {
		id, _, err := f.batch(ctx, token, "grown-"+strconv.Itoa(i), f.CodesOfBatch)
		if err != nil {
			return err
		}
		b := grownBatch{ID: id}
		count := f.Activations*(i+1)/f.Batches - done
		for k := range count {
			a := grownActivation{From: int64(f.CodesOfBatch * k / count), To: int64(f.CodesOfBatch*(k+1)/count - 1),
				Activity: (done + k) % f.Activities}
			body := map[string]any{"code_start": a.From, "code_end": a.To,
				"binding": map[string]any{"activity_name": "activity " + strconv.Itoa(a.Activity),
					"product_brand": "Brand " + strconv.Itoa(a.Activity%10), "product_title": "Beans",
					"product_code": fmt.Sprintf("40063813339%02d", a.Activity%20),
					"wxa_appid":    "wxminiprogram0001", "wxa_path": "pages/item/item"}}
			if err := f.admin(ctx, http.MethodPost, fmt.Sprintf("/batches/%d/activations", id), body, nil); err != nil {
				return err
			}
			b.Activations = append(b.Activations, a)
		}
		done += count
		var got struct {
			Events []struct {
				Seq    int64
				Action string
				Ranges []struct{ From, To int64 }
			}
		}
		for after, k := int64(0), 0; k < count; {
			if err := f.admin(ctx, http.MethodGet, fmt.Sprintf("/batches/%d/events?limit=1000&after=%d", id, after), nil,
				&got); err != nil {
				return err
			}
			for _, e := range got.Events {
				after = e.Seq
				if e.Action == "activate" && len(e.Ranges) == 1 && k < count && e.Ranges[0].From == b.Activations[k].From {
					b.Activations[k].Seq = e.Seq
					k++
				}
			}
			if len(got.Events) == 0 {
				return fmt.Errorf("of %d activations of batch %d only %d are among its events", count, id, k)
			}
		}
		f.Made = append(f.Made, b)
	}
	return nil
}

// links selects the links to scan: links of published rules, spread over all rule ids.
func (f *filling) links(ctx context.Context) error {
	var page struct {
		Rules []struct {
			ID            int64
			Owner, Prefix string
			Published     bool
		}
	}
	if err := f.admin(ctx, http.MethodGet, "/rules?limit=1", nil, &page); err != nil || len(page.Rules) == 0 {
		return fmt.Errorf("the first rule: %w", err)
	}
	first := page.Rules[0].ID
	for i := range f.Links {
		after := first - 1 + int64(i)*int64(f.Rules)/int64(f.Links)
		if err := f.admin(ctx, http.MethodGet, fmt.Sprintf("/rules?limit=10&after=%d", after), nil, &page); err != nil {
			return err
		}
		for _, r := range page.Rules {
			if r.Published {
				text := r.Prefix
				if strings.HasSuffix(text, "/") {
					text += "t1"
				}
				f.Scanned = append(f.Scanned, grownLink{r.ID, r.Owner, text})
				break
			}
		}
	}
	if len(f.Scanned) == 0 {
		return fmt.Errorf("no rule is published")
	}
	return nil
}

// ranges deactivates or freezes ranges of codes, one range per call.
func (f *filling) ranges(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		b := f.Made[i%len(f.Made)]
		// Change at most a hundredth of the codes, so that most codes keep their state.
		first := int64(i / len(f.Made) * 97 % (f.CodesOfBatch - 3))
		body := map[string]any{"ranges": []map[string]any{{"from": first, "to": first + 2}}}
		path := "deactivations"
		if i%2 == 1 {
			path, body["action"] = "states", "freeze"
		}
		if err := f.admin(ctx, http.MethodPost, fmt.Sprintf("/batches/%d/%s", b.ID, path), body, nil); err != nil {
			return err
		}
	}
	return nil
}

// createErasableUsers scans once for each erasable user and reads the user's hash from the stored scan.
func (f *filling) createErasableUsers(ctx context.Context) error {
	key, err := f.scanKey(ctx)
	if err != nil {
		return err
	}
	for i := range grownErased {
		user := "grown-user-" + strconv.Itoa(i)
		body := map[string]any{"text": f.Scanned[0].Text, "user": user}
		var response struct {
			ScanID string `json:"scan_id"`
		}
		if err := call(ctx, http.MethodPost, f.scanURL+"/scan/v1/resolve", key, body, &response); err != nil {
			return err
		}
		var stored struct{ User string }
		if err := f.admin(ctx, http.MethodGet, "/scans/"+url.PathEscape(response.ScanID), nil, &stored); err != nil {
			return err
		}
		var hash scanlog.UserHash
		if n, err := hex.Decode(hash[:], []byte(stored.User)); err != nil || n != len(hash) {
			return fmt.Errorf("user %q: %v", stored.User, err)
		}
		f.Erasable, f.users = append(f.Erasable, user), append(f.users, hash)
	}
	return nil
}

// scans writes the scan log of all days directly to the journal, with the server stopped.
func (f *filling) scans(ctx context.Context, from time.Time) error {
	if err := f.close(); err != nil {
		return err
	}
	journal, err := scanlog.OpenJournal(filepath.Join(f.data, "scans"), scanlog.JournalOptions{})
	if err != nil {
		return err
	}
	defer journal.Close()
	const batchSize = 50_000
	m := f.newMaker(from)
	events := make([]scanlog.Event, 0, batchSize)
	for done := 0; done < f.Scans; {
		n := min(batchSize, f.Scans-done)
		events = events[:n]
		for i := range events {
			m.make(&events[i], done+i)
		}
		if err := journal.Append(ctx, events); err != nil {
			return err
		}
		if mid := f.Scans/2 - done; mid >= 0 && mid < n {
			f.Middle = events[mid].ID.String()
		}
		if done += n; done == f.Scans {
			f.Last = events[max(0, n-200)].ID.String()
		}
	}
	return journal.Close()
}

// grownMaker generates scans with activities, links and users distributed by Zipf's law.
type grownMaker struct {
	f                          *filling
	random                     *mrand.Rand
	activity, link, user       *mrand.Zipf
	byActivity                 [][][2]int // indexes of batch and activation, by activity
	userInterval               int        // scans between two scans of erasable users
	from                       time.Time
	step                       float64 // nanoseconds between scans
	unmatched, regions, client []string
	networks                   []netip.Prefix
}

func (f *filling) newMaker(from time.Time) *grownMaker {
	random := mrand.New(mrand.NewPCG(3, 14))
	zipf := func(n int, v float64) *mrand.Zipf { return mrand.NewZipf(random, 1.05, v, uint64(n-1)) }
	m := &grownMaker{f: f, random: random, activity: zipf(f.Activities, 1), link: zipf(len(f.Scanned), 1), user: zipf(f.Users, 100),
		byActivity: make([][][2]int, f.Activities), userInterval: max(1, f.Scans/(grownErased*scansOfUser)), from: from,
		step: float64(f.end.Sub(from)) / float64(f.Scans)}
	for b, batch := range f.Made {
		for a, activation := range batch.Activations {
			m.byActivity[activation.Activity] = append(m.byActivity[activation.Activity], [2]int{b, a})
		}
	}
	for i := range 30 {
		m.regions = append(m.regions, fmt.Sprintf("CN-%02d", i+11))
	}
	for i := range 200 {
		m.unmatched = append(m.unmatched, fmt.Sprintf("https://gone%d.example/a", i))
	}
	for i := range 4096 {
		m.networks = append(m.networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + i>>8), byte(i), 0}), 24))
	}
	m.client = []string{"bench/1", "bench/2", "app/7.1"}
	return m
}

func (m *grownMaker) make(e *scanlog.Event, number int) {
	f := m.f
	*e = scanlog.Event{OccurredAt: m.from.Add(time.Duration(m.step * float64(number))).Truncate(time.Millisecond), Source: "scan",
		Client: m.client[number%3]}
	ms := e.OccurredAt.UnixMilli()
	for j := range 6 {
		e.ID[j] = byte(ms >> (40 - 8*j))
	}
	random := m.random.Uint64()
	for j := 6; j < 14; j++ {
		e.ID[j] = byte(random >> (8 * (j - 6)))
	}
	random = m.random.Uint64()
	e.ID[14], e.ID[15] = byte(random), byte(random>>8)
	user := m.user.Uint64()
	// A printed code or link is scanned in one region only.
	region := func(n int) string { return m.regions[n%len(m.regions)] }
	switch draw := m.random.IntN(100); {
	case draw < 3:
		n := m.random.IntN(len(m.unmatched))
		e.Action, e.Text, e.Region = "show_text", m.unmatched[n], region(n)
		f.Misses++
	case draw < 33:
		f.OfCodes++
		activations := m.byActivity[m.activity.Uint64()]
		chosen := activations[m.random.IntN(len(activations))]
		b := &f.Made[chosen[0]]
		a := &b.Activations[chosen[1]]
		e.Action, e.Kind, e.App, e.Version = "open_mini_program", "code", "wxminiprogram0001", "release"
		e.Batch, e.Activation, e.Index, e.Region = b.ID, a.Seq, a.From+m.random.Int64N(a.To-a.From+1), region(chosen[1])
		// Most scans of a code come from the user derived from the code, its buyer.
		user = (uint64(e.Batch)<<32 | uint64(e.Index)) * 0x9e3779b97f4a7c15 >> 20 % uint64(f.Users)
	default:
		n := m.link.Uint64()
		l := &f.Scanned[n]
		e.Action, e.Kind, e.App, e.Version, e.RuleID, e.Text = "open_mini_program", "rule", l.Owner, "release", l.Rule, l.Text
		e.Region = region(int(n))
	}
	if number%m.userInterval == 0 && number/m.userInterval < grownErased*scansOfUser {
		e.User = f.users[number/m.userInterval%grownErased]
	} else {
		e.User = scanlog.UserHash{1, byte(user), byte(user >> 8), byte(user >> 16), byte(user >> 24)}
	}
	e.Network = m.networks[user*2654435761%4096]
}

// aggregate restarts the server with the real time and waits until all scans are aggregated.
func (f *filling) aggregate(ctx context.Context) error {
	f.Uncounted = databaseBytes(f.data)
	if err := f.start(ctx); err != nil {
		return err
	}
	// The request times out after a minute or two; aggregating a large scan log takes longer.
	for counted, failures := int64(-1), 0; counted < f.scanCount(); {
		var response struct {
			Counted struct{ Scans int64 }
		}
		_ = f.admin(ctx, http.MethodGet, "/statistics?wait=true", nil, nil)
		if err := f.admin(ctx, http.MethodGet, "/statistics", nil, &response); err != nil {
			return err
		}
		failures++
		if response.Counted.Scans > counted {
			counted, failures = response.Counted.Scans, 0
		}
		if failures == 10 || counted > f.scanCount() {
			return fmt.Errorf("%d scans were written and %d are counted", f.scanCount(), counted)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := f.close(); err != nil {
		return err
	}
	f.Counted = databaseBytes(f.data)
	// Remove the stored clock of the fill, so that another process does not compare its clock with it.
	return os.RemoveAll(filepath.Join(f.data, "clock"))
}

// rollUpMonths rolls up all complete months. A server that runs all year does this monthly; one whose clock jumps waits for
// a day.
func (f *filling) rollUpMonths(ctx context.Context) error {
	s, err := store.Open(ctx, store.Target{URL: f.database, Dir: f.data})
	if err != nil {
		return err
	}
	defer s.Close()
	c := &stats.Aggregator{Store: s}
	for more := true; more; {
		if more, err = c.Roll(ctx, f.end); err != nil {
			return err
		}
	}
	return nil
}

// scanCount returns the number of scans in the scan log.
func (g *grown) scanCount() int64 { return int64(g.Scans + len(g.Erasable)) }

func databaseBytes(data string) (n int64) {
	files, _ := filepath.Glob(filepath.Join(data, "qrjump.db*"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			n += info.Size()
		}
	}
	return n
}

func (g *grown) write(data string) error {
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, "grown.json"), text, 0o600)
}

func readGrown(data string) (*grown, error) {
	text, err := os.ReadFile(filepath.Join(data, "grown.json"))
	if err != nil {
		return nil, err
	}
	g := &grown{}
	return g, json.Unmarshal(text, g)
}
