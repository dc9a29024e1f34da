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

// Growth is what one thing costs at several sizes of a server.
type Growth struct {
	What string
	// With is what it is expected to grow with.
	With string
	// Engine is the database, Program the qrjump that was asked: "" where there was one.
	Engine, Program string
	Unit            string
	Factors, Costs  []float64
	Walls           []float64 `json:",omitempty"` // beside processor time
	// Why says of each factor without a cost why there is none.
	Why map[string]string `json:",omitempty"`
}

// cost of a probe: processor time of the server and time that passed, in seconds; or
// a size.
type cost struct{ value, wall float64 }

// grownPart is what a run of the section does.
type grownPart struct {
	factor   float64
	before   string // a qrjump that is measured beside ours; "" = none
	program  string // the name of ours in the table, "" = none
	fillOnly bool
	postgres bool
	rows     *regexp.Regexp // only these, with the starts; nil = all
	// longest is how long a row may take at a size, going by the size before.
	longest time.Duration
}

// grown fills data folders with a year of a large brand and measures what each thing
// costs: at a hundredth, a tenth and the whole of the factor.
func (b *bench) grown(ctx context.Context) error {
	patience := client.Timeout
	client.Timeout = 0 // a recount takes what it takes
	defer func() { client.Timeout = patience }()
	b.out.Rounds = 1
	b.keepOthers()
	if b.grownPart.postgres {
		if err := b.grownOnPostgres(ctx); err != nil {
			return fmt.Errorf("on PostgreSQL: %w", err)
		}
		return nil
	}
	for _, part := range []float64{100, 10, 1} {
		size := grownAt(b.grownPart.factor / part)
		data, g, err := b.grownFolder(ctx, "grown", size)
		if err != nil {
			return err
		}
		b.saysGrown("SQLite", g)
		if b.grownPart.fillOnly {
			continue
		}
		err = b.eachProgram(func(with *bench, program string) error {
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

// keepOthers takes over what an earlier run measured on the other database or of
// other programs.
func (b *bench) keepOthers() {
	if b.last == nil {
		return
	}
	for _, g := range b.last.Growth {
		own := g.Program == b.grownPart.program
		if b.grownPart.before != "" {
			own = g.Program == "before" || g.Program == "now"
		}
		if own && b.grownPart.wants(g.What) && (g.Engine == onThePostgres) == b.grownPart.postgres {
			continue
		}
		b.out.Growth = append(b.out.Growth, g)
	}
	b.out.Notes = append(b.out.Notes, b.last.Notes...)
}

const onThePostgres = "PostgreSQL"

// grownOnPostgres is the same at a tenth of everything.
func (b *bench) grownOnPostgres(ctx context.Context) error {
	address, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for i, part := range []float64{1000, 100, 10} {
		size := grownAt(b.grownPart.factor / part)
		name := "grown" + strconv.Itoa(i)
		if err := onPostgres(ctx, address, "CREATE DATABASE "+name); err != nil {
			return err
		}
		data := filepath.Join(b.work, name)
		fmt.Printf("   filling a PostgreSQL with %s scans\n", sizeName(size.Scans))
		g, err := fillGrown(ctx, data, databaseOf(address, name), size, saysIndented)
		if err != nil {
			return err
		}
		b.saysGrown(onThePostgres, g)
		err = b.eachProgram(func(with *bench, program string) error {
			work, err := linkedCopy(data, filepath.Join(b.work, "grown"))
			if err != nil {
				return err
			}
			defer os.RemoveAll(work)
			// A template must have no callers; the filling has ended.
			if err := onPostgres(ctx, address, "CREATE DATABASE measured TEMPLATE "+name); err != nil {
				return err
			}
			err = with.measureGrown(ctx, &grownServer{b: with, g: g, data: work, engine: onThePostgres, program: program,
				database: databaseOf(address, "measured")})
			return errors.Join(err, onPostgres(ctx, address, "DROP DATABASE measured WITH (FORCE)"))
		})
		if err != nil {
			return err
		}
		if err := onPostgres(ctx, address, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

// databaseOf is the address of a database on the server of another.
func databaseOf(address, name string) string {
	before, query, _ := strings.Cut(address, "?")
	before = before[:strings.LastIndexByte(before, '/')+1] + name
	if query != "" {
		before += "?" + query
	}
	return before
}

func onPostgres(ctx context.Context, address, statement string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// eachProgram runs f for the other program, if there is one, and for ours.
func (b *bench) eachProgram(f func(with *bench, program string) error) error {
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

func saysIndented(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

func (b *bench) saysGrown(engine string, g *grown) {
	said := fmt.Sprintf(
		"The data set for %s with the size factor %g has %s scans over %d days, of which %d are scans of codes, and %d activities, "+
			"%d links, %d users, %d rules of %d accounts, %d batches with %d activations and %d withdrawn or frozen ranges, "+
			"and %d changes of rules; filling the data set took %.0f s: %.0f s for accounts, %.0f s for rules, "+
			"%.0f s for changes and ranges, %.0f s for the scan log, %.0f s for the roll-up of scans and %.0f s for the roll-up of months.",
		engine, g.Factor, sizeName(g.Scans), g.Days, g.OfCodes, g.Activities, g.Links, g.Users, g.Rules, g.Accounts, g.Batches,
		g.Activations, g.Ranges, g.Changes,
		sum(g.Spent), g.Spent["accounts"], g.Spent["rules"], g.Spent["changes"], g.Spent["ledger"], g.Spent["counting"],
		g.Spent["months"])
	// A folder is kept, and so is what was said of it.
	if !slices.Contains(b.out.Notes, said) {
		b.note("%s", said)
	}
}

func sum(of map[string]float64) (all float64) {
	for _, v := range of {
		all += v
	}
	return all
}

// grownFolder is a kept data folder of a size; name and factor are its own.
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
	g, err := fillGrown(ctx, making, "", size, saysIndented)
	if err != nil {
		return "", nil, err
	}
	if err := g.write(making); err != nil {
		return "", nil, err
	}
	return data, g, os.Rename(making, data)
}

// linkedCopy copies a folder; files of scans, which are never written again once
// they are closed, are the same files.
func linkedCopy(data, to string) (string, error) {
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rest)
		switch {
		case d.IsDir():
			return os.MkdirAll(at, 0o700)
		case strings.HasSuffix(path, ".scans"):
			return os.Link(path, at)
		}
		text, err := exec.Command("cp", "--reflink=auto", path, at).CombinedOutput()
		if err != nil {
			return fmt.Errorf("copying %s: %w: %s", path, err, text)
		}
		return nil
	})
	return to, err
}

// grownServer is a server on a copy of a filled folder.
type grownServer struct {
	b               *bench
	g               *grown
	data, database  string
	engine, program string
	archive         string // of its export
	user            int    // that is erased next
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

// probe is one line of the table of growth.
type probe struct {
	what, with string
	unit       string // "" = time
	do         func(*grownServer, context.Context) (cost, error)
}

// notHere is why something is not measured.
type notHere string

func (n notHere) Error() string { return string(n) }

func notMeasured(format string, args ...any) error { return notHere(fmt.Sprintf(format, args...)) }

// measureGrown asks for every probe, in their order.
func (b *bench) measureGrown(ctx context.Context, s *grownServer) error {
	fmt.Printf("   measuring %s %s at %g\n", s.engine, s.program, s.g.Factor)
	defer func() { s.stop() }()
	for _, p := range probes {
		wanted := b.grownPart.wants(p.what)
		if !wanted && p.what != startOfAll {
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
			err = s.alive()
		}
		if err != nil && p.what == startOfAll {
			return err // nobody is there to be asked
		}
		why := ""
		if err != nil {
			if why = oneLine(err.Error()); len(why) > 200 {
				why = why[:200] + "…"
			}
			if _, chosen := errors.AsType[notHere](err); !chosen {
				why = "failed: " + why
			}
		}
		if wanted {
			b.grew(s, p, c, why)
		}
	}
	return nil
}

func (p *grownPart) wants(what string) bool { return p.rows == nil || p.rows.MatchString(what) }

// tooLong foretells from the sizes before that a row takes longer than it may.
func (b *bench) tooLong(s *grownServer, p probe) error {
	for _, g := range b.out.Growth {
		n := len(g.Walls)
		if g.What != p.what || g.Engine != s.engine || g.Program != s.program || n == 0 {
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

// grew notes what a probe cost.
func (b *bench) grew(s *grownServer, p probe, c cost, why string) {
	i := slices.IndexFunc(b.out.Growth, func(g Growth) bool { return g.What == p.what && g.Engine == s.engine && g.Program == s.program })
	if i < 0 {
		i = len(b.out.Growth)
		unit := p.unit
		if unit == "" {
			unit = "ms"
		}
		b.out.Growth = append(b.out.Growth, Growth{What: p.what, With: p.with, Engine: s.engine, Program: s.program, Unit: unit,
			Why: map[string]string{}})
	}
	g := &b.out.Growth[i]
	if why != "" {
		g.Why[fmt.Sprint(s.g.Factor)] = why
		fmt.Printf("      %-60s not measured: %s\n", p.what, why)
		return
	}
	if p.unit == "" {
		c = cost{c.value * 1000, c.wall * 1000}
		g.Walls = append(g.Walls, c.wall)
	}
	g.Factors, g.Costs = append(g.Factors, s.g.Factor), append(g.Costs, c.value)
	fmt.Printf("      %-60s %10s %s", p.what, number(c.value), g.Unit)
	if p.unit == "" {
		fmt.Printf("  (%s passed)", number(c.wall))
	}
	fmt.Println()
}

// spent is what the server needs for f, the mean of several runs after a first one
// that does not count; of one run where once is true.
func (s *grownServer) spent(ctx context.Context, once bool, f func() error) (cost, error) {
	const most, atLeast, enough = 200, 3, 1500 * time.Millisecond
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
	for runs == 0 || !once && runs < most && (runs < atLeast || time.Since(began) < enough) {
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

// asks is a probe that reads from the admin API.
func asks(path func(*grownServer) string) func(*grownServer, context.Context) (cost, error) {
	return func(s *grownServer, ctx context.Context) (cost, error) {
		at := path(s)
		return s.spent(ctx, false, func() error { return s.admin(ctx, http.MethodGet, at, nil, nil) })
	}
}

func always(path string) func(*grownServer) string { return func(*grownServer) string { return path } }

// reads is a probe that reads a long answer to its end, once.
func (s *grownServer) reads(ctx context.Context, method, path, body string, to io.Writer) (cost, error) {
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

// runs is what a verb of the command line costs, the process itself.
func (s *grownServer) runs(ctx context.Context, args ...string) (cost, error) {
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

// freeBytes is what the disk of a folder has left.
func freeBytes(folder string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(folder, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}
