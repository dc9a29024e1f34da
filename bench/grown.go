package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Growth is a row of the growth table: the cost of an operation at several data sizes.
type Growth struct {
	What string
	// With names the quantity that the cost is expected to grow with.
	With string
	// Engine is the database. Program is the name of the measured qrjump, "" if there is only one.
	Engine, Program string
	Unit            string
	Factors, Costs  []float64
	Walls           []float64 `json:",omitempty"` // elapsed times, for rows that measure processor time
	// Why has the reason for each factor that was not measured.
	Why map[string]string `json:",omitempty"`
}

// cost is the result of a probe in seconds: the processor time of the server and the elapsed time. For a row with a unit of its own,
// value is in that unit.
type cost struct{ value, wall float64 }

// grownPart holds the options of the section grown.
type grownPart struct {
	factor   float64
	before   string // path of another qrjump to measure for comparison; "" = none
	program  string // name of this qrjump in the table; "" = none
	fillOnly bool
	postgres bool
	rows     *regexp.Regexp // rows to measure; nil = all
	// longest is the maximum predicted time of a row at a size.
	longest time.Duration
}

// grown fills data folders with a year of a large brand at a hundredth, a tenth and the full factor, and measures the cost of
// each operation at each size.
func (b *bench) grown(ctx context.Context) error {
	timeout := client.Timeout
	client.Timeout = 0 // a recount has no upper bound
	defer func() { client.Timeout = timeout }()
	b.out.Rounds = 1
	b.keepOtherRows()
	if b.grownPart.postgres {
		if err := b.grownOnPostgres(ctx); err != nil {
			return fmt.Errorf("on PostgreSQL: %w", err)
		}
		return nil
	}
	for _, part := range []float64{100, 10, 1} {
		size := grownSizeFor(b.grownPart.factor / part)
		data, g, err := b.grownFolder(ctx, "grown", size)
		if err != nil {
			return err
		}
		b.noteDataSet("SQLite", g)
		if b.grownPart.fillOnly {
			continue
		}
		err = b.forEachProgram(func(with *bench, program string) error {
			work, err := linkedCopy(data, filepath.Join(b.work, "grown"))
			if err != nil {
				return err
			}
			defer os.RemoveAll(work)
			return with.measureGrown(ctx, &grownServer{b: with, g: g, data: work, engine: "SQLite", program: program})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepOthers copies from the previous results the rows of the other database, of other programs and of rows that this run does not
// measure.
func (b *bench) keepOtherRows() {
	if b.last == nil {
		return
	}
	for _, g := range b.last.Growth {
		replaced := g.Program == b.grownPart.program
		if b.grownPart.before != "" {
			replaced = g.Program == "before" || g.Program == "now"
		}
		if replaced && b.grownPart.wants(g.What) && (g.Engine == postgresEngine) == b.grownPart.postgres {
			continue
		}
		b.out.Growth = append(b.out.Growth, g)
	}
	b.out.Notes = append(b.out.Notes, b.last.Notes...)
}

const postgresEngine = "PostgreSQL"

// grownOnPostgres measures the same on PostgreSQL, at a tenth of each size.
func (b *bench) grownOnPostgres(ctx context.Context) error {
	address, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for i, part := range []float64{1000, 100, 10} {
		size := grownSizeFor(b.grownPart.factor / part)
		name := "grown" + strconv.Itoa(i)
		if err := execPostgres(ctx, address, "CREATE DATABASE "+name); err != nil {
			return err
		}
		data := filepath.Join(b.work, name)
		fmt.Printf("   filling a PostgreSQL with %s scans\n", sizeName(size.Scans))
		g, err := fillGrown(ctx, data, databaseURL(address, name), size, printIndented)
		if err != nil {
			return err
		}
		b.noteDataSet(postgresEngine, g)
		err = b.forEachProgram(func(with *bench, program string) error {
			work, err := linkedCopy(data, filepath.Join(b.work, "grown"))
			if err != nil {
				return err
			}
			defer os.RemoveAll(work)
			// CREATE DATABASE … TEMPLATE requires that the template has no open connections.
			if err := execPostgres(ctx, address, "CREATE DATABASE measured TEMPLATE "+name); err != nil {
				return err
			}
			err = with.measureGrown(ctx, &grownServer{b: with, g: g, data: work, engine: postgresEngine, program: program,
				database: databaseURL(address, "measured")})
			return errors.Join(err, execPostgres(ctx, address, "DROP DATABASE measured WITH (FORCE)"))
		})
		if err != nil {
			return err
		}
		if err := execPostgres(ctx, address, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

// databaseURL returns the URL of another database on the same server.
func databaseURL(address, name string) string {
	before, query, _ := strings.Cut(address, "?")
	before = before[:strings.LastIndexByte(before, '/')+1] + name
	if query != "" {
		before += "?" + query
	}
	return before
}

func execPostgres(ctx context.Context, address, statement string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// eachProgram runs f for the other program, if one is set, and for this one.
func (b *bench) forEachProgram(f func(with *bench, program string) error) error {
	if b.grownPart.before == "" {
		return f(b, b.grownPart.program)
	}
	with := *b
	with.server = b.grownPart.before
	if err := f(&with, "before"); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	return f(b, "now")
}

func printIndented(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

func (b *bench) noteDataSet(engine string, g *grown) {
	text := fmt.Sprintf(
		"The data set for %s with the size factor %g has %s scans over %d days, of which %d are scans of codes, and %d activities, "+
			"%d links, %d users, %d rules of %d accounts, %d batches with %d activations and %d withdrawn or frozen ranges, "+
			"and %d changes of rules; filling the data set took %.0f s: %.0f s for accounts, %.0f s for rules, "+
			"%.0f s for changes and ranges, %.0f s for the scan log, %.0f s for the roll-up of scans and %.0f s for the roll-up of months.",
		engine, g.Factor, sizeName(g.Scans), g.Days, g.OfCodes, g.Activities, g.Links, g.Users, g.Rules, g.Accounts, g.Batches,
		g.Activations, g.Ranges, g.Changes,
		sum(g.Spent), g.Spent["accounts"], g.Spent["rules"], g.Spent["changes"], g.Spent["ledger"], g.Spent["counting"],
		g.Spent["months"])
	// The notes of a kept folder may come from an earlier run.
	if !slices.Contains(b.out.Notes, text) {
		b.note("%s", text)
	}
}

func sum(values map[string]float64) (all float64) {
	for _, v := range values {
		all += v
	}
	return all
}

// grownFolder returns a data folder of a size and fills it if no earlier run has. The folder is named after name and the factor.
func (b *bench) grownFolder(ctx context.Context, name string, size grownSize) (string, *grown, error) {
	data := filepath.Join(b.dir, fmt.Sprintf("%s-%g", name, size.Factor))
	if g, err := readGrown(data); err == nil {
		return data, g, nil
	}
	fmt.Printf("   filling a folder with %s scans and %s rules\n", sizeName(size.Scans), sizeName(size.Rules))
	making := data + ".new"
	if err := os.RemoveAll(making); err != nil {
		return "", nil, err
	}
	g, err := fillGrown(ctx, making, "", size, printIndented)
	if err != nil {
		return "", nil, err
	}
	if err := g.write(making); err != nil {
		return "", nil, err
	}
	return data, g, os.Rename(making, data)
}

// linkedCopy copies a data folder. Files of the scan log become hard links, because closed files are never written again.
func linkedCopy(data, to string) (string, error) {
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		destination := filepath.Join(to, rest)
		switch {
		case d.IsDir():
			return os.MkdirAll(destination, 0o700)
		case strings.HasSuffix(path, ".scans"):
			return os.Link(path, destination)
		}
		text, err := exec.Command("cp", "--reflink=auto", path, destination).CombinedOutput()
		if err != nil {
			return fmt.Errorf("copying %s: %w: %s", path, err, text)
		}
		return nil
	})
	return to, err
}

// grownServer is a server on a copy of a filled data folder.
type grownServer struct {
	b               *bench
	g               *grown
	data, database  string
	engine, program string
	archive         string // path of its export
	user            int    // index of the next erasable user
	*qrjump
	key string
}

func (s *grownServer) start(ctx context.Context) (cost, error) {
	began := time.Now()
	with := serve{data: s.data, core: -1}
	if s.database != "" {
		with.args = []string{"--database", s.database}
	}
	q, err := s.b.serve(ctx, with)
	if err != nil {
		return cost{}, err
	}
	s.qrjump = q
	spent, err := cpu(q.pid())
	return cost{spent.Seconds(), time.Since(began).Seconds()}, err
}

func (s *grownServer) stop() {
	if s.qrjump != nil {
		s.qrjump.stop()
		s.qrjump = nil
	}
}

// probe is one row of the growth table.
type probe struct {
	name, with string
	unit       string // "" = processor time and elapsed time
	do         func(*grownServer, context.Context) (cost, error)
}

// unmeasured is the reason why a row is not measured.
type unmeasured string

func (n unmeasured) Error() string { return string(n) }

func notMeasured(format string, args ...any) error { return unmeasured(fmt.Sprintf(format, args...)) }

// measureGrown runs the probes in order.
func (b *bench) measureGrown(ctx context.Context, s *grownServer) error {
	fmt.Printf("   measuring %s %s at %g\n", s.engine, s.program, s.g.Factor)
	defer func() { s.stop() }()
	for _, p := range probes {
		wanted := b.grownPart.wants(p.name)
		if !wanted && p.name != serverStart {
			continue
		}
		c, err := cost{}, b.tooLong(s, p)
		if err == nil {
			c, err = p.do(s, ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && s.qrjump != nil {
			err = s.checkAlive()
		}
		if err != nil && p.name == serverStart {
			return err // the other probes need a running server
		}
		why := ""
		if err != nil {
			if why = oneLine(err.Error()); len(why) > 200 {
				why = why[:200] + "…"
			}
			if _, chosen := errors.AsType[unmeasured](err); !chosen {
				why = "failed: " + why
			}
		}
		if wanted {
			b.recordCost(s, p, c, why)
		}
	}
	return nil
}

func (p *grownPart) wants(name string) bool { return p.rows == nil || p.rows.MatchString(name) }

// tooLong returns an error if the elapsed time at the previous size predicts that a row exceeds the limit.
func (b *bench) tooLong(s *grownServer, p probe) error {
	for _, g := range b.out.Growth {
		n := len(g.Walls)
		if g.What != p.name || g.Engine != s.engine || g.Program != s.program || n == 0 {
			continue
		}
		took := time.Duration(g.Walls[n-1] * float64(time.Millisecond))
		if expected := time.Duration(float64(took) * s.g.Factor / g.Factors[n-1]); took > 5*time.Second && expected > b.grownPart.longest {
			return notMeasured("at %g it took %s, and ten times that exceeds the %s that a row may take (flag -longest)", g.Factors[n-1],
				took.Round(time.Second), b.grownPart.longest)
		}
	}
	return nil
}

// recordCost adds the cost of a probe, or the reason why it was not measured, to the results.
func (b *bench) recordCost(s *grownServer, p probe, c cost, why string) {
	i := slices.IndexFunc(b.out.Growth, func(g Growth) bool { return g.What == p.name && g.Engine == s.engine && g.Program == s.program })
	if i < 0 {
		i = len(b.out.Growth)
		unit := p.unit
		if unit == "" {
			unit = "ms"
		}
		b.out.Growth = append(b.out.Growth, Growth{What: p.name, With: p.with, Engine: s.engine, Program: s.program, Unit: unit,
			Why: map[string]string{}})
	}
	g := &b.out.Growth[i]
	if why != "" {
		g.Why[fmt.Sprint(s.g.Factor)] = why
		fmt.Printf("      %-60s not measured: %s\n", p.name, why)
		return
	}
	if p.unit == "" {
		c = cost{c.value * 1000, c.wall * 1000}
		g.Walls = append(g.Walls, c.wall)
	}
	g.Factors, g.Costs = append(g.Factors, s.g.Factor), append(g.Costs, c.value)
	fmt.Printf("      %-60s %10s %s", p.name, number(c.value), g.Unit)
	if p.unit == "" {
		fmt.Printf("  (%s passed)", number(c.wall))
	}
	fmt.Println()
}

// spent returns the mean cost of f over several runs after a warm-up run; with once, the cost of a single run without warm-up.
func (s *grownServer) spent(ctx context.Context, once bool, f func() error) (cost, error) {
	const maxRuns, minRuns, minDuration = 200, 3, 1500 * time.Millisecond
	runs := 0
	if !once {
		if err := f(); err != nil {
			return cost{}, err
		}
	}
	before, err := cpu(s.pid())
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	for runs == 0 || !once && runs < maxRuns && (runs < minRuns || time.Since(began) < minDuration) {
		if err := f(); err != nil {
			return cost{}, err
		}
		runs++
		if ctx.Err() != nil {
			return cost{}, ctx.Err()
		}
	}
	wall := time.Since(began)
	after, err := cpu(s.pid())
	return cost{(after - before).Seconds() / float64(runs), wall.Seconds() / float64(runs)}, err
}

// adminGet returns a probe that measures a GET request of the admin API.
func adminGet(path func(*grownServer) string) func(*grownServer, context.Context) (cost, error) {
	return func(s *grownServer, ctx context.Context) (cost, error) {
		address := path(s)
		return s.spent(ctx, false, func() error { return s.admin(ctx, http.MethodGet, address, nil, nil) })
	}
}

func static(path string) func(*grownServer) string { return func(*grownServer) string { return path } }

// readAll sends one request and copies the complete response body to a writer.
func (s *grownServer) readAll(ctx context.Context, method, path, body string, to io.Writer) (cost, error) {
	return s.spent(ctx, true, func() error {
		req, err := http.NewRequestWithContext(ctx, method, s.url+"/admin/v1"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+adminToken)
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode/100 != 2 {
			text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
			return fmt.Errorf("%s: %s: %s", path, res.Status, text)
		}
		_, err = io.Copy(to, res.Body)
		return err
	})
}

// runCommand runs qrjump with args and returns the cost of that process.
func (s *grownServer) runCommand(ctx context.Context, args ...string) (cost, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, s.b.server, args...)
	cmd.Env = append(os.Environ(), "QRJUMP_PASSPHRASE="+grownPassphrase, "TMPDIR="+s.b.work)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("%s: %w: %.300s", args[0], err, out.String())
	}
	return cost{(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), time.Since(began).Seconds()}, nil
}

const grownPassphrase = "a year of a large brand"

// freeBytes returns the free space of the disk that holds a folder.
func freeBytes(folder string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(folder, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}
