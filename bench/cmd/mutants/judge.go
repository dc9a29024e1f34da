package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// testPackage is a package with tests.
type testPackage struct {
	folder string // relative to the root
	binary string
	tests  map[string]time.Duration // duration of the tests that pass without a mutant
	reach  map[int]map[string]bool  // tests by mutant number; "" = outside of tests
}

type suite struct {
	settings
	overlay  string
	packages []*testPackage
	mu       sync.Mutex
	flaky    map[string]bool
}

// build compiles the tests of each package with all mutants in them.
func build(ctx context.Context, s settings, mutants []mutant) (*suite, error) {
	overlay, err := schemata(ctx, s, s.root, mutants, true)
	if err != nil {
		return nil, err
	}
	u := &suite{settings: s, overlay: overlay, flaky: map[string]bool{}}
	if err := u.removeStale(); err != nil {
		return nil, err
	}
	list, err := output(ctx, s.root, "go", "list", "-f", `{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}`, "./...")
	if err != nil {
		return nil, err
	}
	for _, dir := range strings.Fields(list) {
		folder, err := filepath.Rel(s.root, dir)
		if err != nil {
			return nil, err
		}
		p := &testPackage{folder: folder, binary: filepath.Join(s.dir, "bin", u.flat(folder)+".test")}
		u.packages = append(u.packages, p)
		if _, err := os.Stat(p.binary); err == nil {
			continue
		}
		log.Printf("building the tests of %s", folder)
		args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", p.binary, "./" + folder}
		if _, err := output(ctx, s.root, "go", args...); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func (u *suite) flat(folder string) string { return strings.ReplaceAll(folder, "/", "+") }

// removeStale removes binaries and results that belong to another overlay.
func (u *suite) removeStale() error {
	sum := sha256.New()
	err := filepath.WalkDir(filepath.Dir(u.overlay), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			var text []byte
			text, err = os.ReadFile(path)
			fmt.Fprintln(sum, len(text))
			sum.Write(text)
		}
		return err
	})
	if err != nil {
		return err
	}
	fingerprint, kept := fmt.Sprintf("%x", sum.Sum(nil)), filepath.Join(u.dir, "fingerprint")
	if text, err := os.ReadFile(kept); err == nil && string(text) == fingerprint {
		return nil
	}
	for _, name := range []string{"bin", "records", "results.json"} {
		if err := os.RemoveAll(filepath.Join(u.dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin", "records"} {
		if err := os.MkdirAll(filepath.Join(u.dir, name), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(kept, []byte(fingerprint), 0o644)
}

// run runs tests of a package and returns their output. On cancellation it kills the whole process group.
func (u *suite) run(ctx context.Context, p *testPackage, timeout time.Duration, env []string, args ...string) (string, error) {
	tmp, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o711); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.binary, append(args, "-test.timeout="+timeout.String())...)
	cmd.Dir = filepath.Join(u.root, p.folder)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+tmp, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+u.overlay)), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var resultLine = regexp.MustCompile(`--- (PASS|FAIL|SKIP): ([A-Z]\w*) \(([0-9.]+)s\)`)

// record runs every test once without a mutant, and reads which mutants each test reaches and how long it takes.
func (u *suite) record(ctx context.Context) error {
	return u.forEach(ctx, len(u.packages), func(i int) error {
		p := u.packages[i]
		base := filepath.Join(u.dir, "records", u.flat(p.folder))
		text, err := os.ReadFile(base + ".out")
		if errors.Is(err, fs.ErrNotExist) {
			log.Printf("recording %s", p.folder)
			if err := os.RemoveAll(base + ".reached"); err != nil {
				return err
			}
			out, err := u.run(ctx, p, time.Hour, []string{"MUTANT=0", "MUTANT_RECORD=" + base + ".reached"}, "-test.v", "-test.parallel=1")
			if err != nil {
				log.Printf("%s without a mutant: %v", p.folder, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			text = []byte(out)
			if err := os.WriteFile(base+".out", text, 0o644); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		p.tests = map[string]time.Duration{}
		var failed []string
		for _, found := range resultLine.FindAllStringSubmatch(string(text), -1) {
			seconds, err := strconv.ParseFloat(found[3], 64)
			if err != nil {
				return err
			}
			switch found[1] {
			case "PASS":
				p.tests[found[2]] = time.Duration(seconds * float64(time.Second))
			case "FAIL":
				failed = append(failed, found[2])
			}
		}
		for _, name := range failed { // recording costs time and allocations; retry without it
			if _, err := u.run(ctx, p, time.Hour, []string{"MUTANT=0"}, "-test.run=^"+name+"$"); err != nil {
				log.Printf("%s: %s fails without a mutant and is left out", p.folder, name)
				continue
			}
			p.tests[name] = time.Minute
		}
		p.reach, err = readReached(base + ".reached")
		return err
	})
}

func readReached(path string) (map[int]map[string]bool, error) {
	reach := map[int]map[string]bool{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return reach, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, test, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if reach[n] == nil {
			reach[n] = map[string]bool{}
		}
		reach[n][test] = true
	}
	return reach, lines.Err()
}

// forEach calls f for 0 to n-1, several calls at a time.
func (u *suite) forEach(ctx context.Context, n int, f func(int) error) error {
	var wait sync.WaitGroup
	var mu sync.Mutex
	var failed error
	next := 0
	for range u.parallel {
		wait.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= n || ctx.Err() != nil
				mu.Unlock()
				if stop {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return cmp.Or(failed, ctx.Err())
}

// result is the outcome of a mutant.
type result struct {
	Outcome string // detected, survived, unreached or gone
	By      string // the test that failed, or the reason if none did
	Tests   int    // number of tests that ran
}

// judge runs for each mutant the tests that reach it until one fails, and writes the table.
func (u *suite) judge(ctx context.Context, mutants []mutant) error {
	if u.first > 0 {
		mutants = mutants[:min(u.first, len(mutants))]
	}
	path := filepath.Join(u.dir, "results.json")
	results := map[int]result{}
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &results); err != nil {
			return err
		}
	}
	known := maps.Clone(results)
	err := u.forEach(ctx, len(mutants), func(i int) error {
		m := mutants[i]
		if _, done := known[m.Number]; done {
			return nil
		}
		r, err := u.test(ctx, m)
		if err != nil {
			return err
		}
		log.Printf("%d %s:%d %s: %s %s", m.Number, m.File, m.Line, m.Kind, r.Outcome, r.By)
		u.mu.Lock()
		defer u.mu.Unlock()
		results[m.Number] = r
		text, err := json.MarshalIndent(results, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(path, text, 0o644)
	})
	if err != nil {
		return err
	}
	return u.write(mutants, results)
}

func (u *suite) write(mutants []mutant, results map[int]result) error {
	var table strings.Builder
	counts := map[string]int{}
	fmt.Fprintln(&table, "mutant\tplace\tfunction\tkind\ttext\toutcome\tby\ttests")
	for _, m := range mutants {
		r := results[m.Number]
		counts[r.Outcome]++
		text := m.Text
		if len(text) > 100 {
			text = text[:100] + "…"
		}
		fmt.Fprintf(&table, "%d\t%s:%d\t%s\t%s\t%s\t%s\t%s\t%d\n", m.Number, m.File, m.Line, m.Func, m.Kind, text, r.Outcome, r.By, r.Tests)
	}
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("%-10s %4d\n", outcome, counts[outcome])
	}
	fmt.Println(u.out)
	return os.WriteFile(u.out, []byte(table.String()), 0o644)
}

// batch is a set of tests of a package that run in one process.
type batch struct {
	*testPackage
	tests    []string
	duration time.Duration
}

func (u *suite) test(ctx context.Context, m mutant) (result, error) {
	if m.invalid != "" {
		return result{Outcome: "gone", By: m.invalid}, nil
	}
	batches, skipped := u.batches(m)
	r := result{Outcome: "survived"}
	if len(batches) == 0 && skipped == 0 {
		return result{Outcome: "unreached", By: "no test reaches it"}, nil
	}
	if skipped > 0 {
		r.By = fmt.Sprintf("%d packages beyond the budget were not run", skipped)
	}
	for _, b := range batches {
		r.Tests += len(b.tests)
		test, err := u.detects(ctx, b, m.Number)
		if err != nil || test != "" {
			r.Outcome, r.By = "detected", b.folder+" "+test
			return r, err
		}
	}
	return r, nil
}

// batches returns the tests that reach a mutant within the budget: first those of the mutant's own package, then other packages by
// duration; in a package, fast tests come first. It also returns the number of packages beyond the budget.
func (u *suite) batches(m mutant) (list []batch, skipped int) {
	var all []batch
	for _, p := range u.packages {
		b := batch{testPackage: p}
		reach := p.reach[m.Number]
		for name, duration := range p.tests {
			if reach[name] || reach[""] {
				b.tests = append(b.tests, name)
				b.duration += duration
			}
		}
		if len(b.tests) > 0 {
			all = append(all, b)
		}
	}
	folder := filepath.Dir(m.File)
	foreign := func(b batch) int {
		if b.folder == folder {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b batch) int {
		return cmp.Or(cmp.Compare(foreign(a), foreign(b)), cmp.Compare(a.duration, b.duration), cmp.Compare(a.folder, b.folder))
	})
	var spent time.Duration
	for i, b := range all {
		if b.folder != folder {
			if spent+b.duration > u.budget {
				return list, len(all) - i
			}
			spent += b.duration
		}
		slices.SortFunc(b.tests, func(x, y string) int {
			return cmp.Or(cmp.Compare(b.testPackage.tests[x], b.testPackage.tests[y]), cmp.Compare(x, y))
		})
		fast := 0
		for fast < len(b.tests) && b.testPackage.tests[b.tests[fast]] < 300*time.Millisecond {
			fast++
		}
		for _, part := range [][]string{b.tests[:fast], b.tests[fast:]} {
			if len(part) > 0 {
				list = append(list, batch{testPackage: b.testPackage, tests: part, duration: b.duration})
			}
		}
	}
	return list, 0
}

var failLine = regexp.MustCompile(`--- FAIL: (\S+)`)

// detects returns the test that fails with a mutant and passes without it; "" = none.
func (u *suite) detects(ctx context.Context, b batch, n int) (string, error) {
	timeout := time.Minute + 5*b.duration
	for {
		tests := slices.DeleteFunc(slices.Clone(b.tests), func(name string) bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.flaky[b.folder+" "+name]
		})
		if len(tests) == 0 {
			return "", nil
		}
		out, err := u.run(ctx, b.testPackage, timeout, []string{fmt.Sprintf("MUTANT=%d", n)}, "-test.failfast", pattern(tests))
		if err == nil || ctx.Err() != nil {
			return "", ctx.Err()
		}
		test, retry := "the process ended", tests
		found := failLine.FindStringSubmatch(out)
		if found != nil {
			test, _, _ = strings.Cut(found[1], "/")
			retry = []string{test}
		} else if strings.Contains(out, "test timed out") {
			test = "timeout"
		}
		if _, err := u.run(ctx, b.testPackage, timeout, []string{"MUTANT=0"}, pattern(retry)); err == nil || ctx.Err() != nil {
			return test, ctx.Err()
		}
		if found == nil {
			return "", nil
		}
		log.Printf("%s: %s also failed without a mutant; it is skipped from now on", b.folder, test)
		u.mu.Lock()
		u.flaky[b.folder+" "+test] = true
		u.mu.Unlock()
	}
}

func pattern(tests []string) string { return "-test.run=^(" + strings.Join(tests, "|") + ")$" }
