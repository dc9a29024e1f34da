// Command sqlitedrivers measures SQLite drivers for Go against each other on this product's workload.
// Every measurement runs in a process of its own, drivers take turns within a round, and only ratios are
// printed: time of a driver divided by the time of modernc in the same round.
//
//	go run ./sqlitedrivers [-rounds 9] [-dir folder on the disk to measure]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

type driver struct {
	name, tag string
	cgo       string
}

var drivers = []driver{
	{"modernc", "modernc", "0"},
	{"ncruces", "ncruces", "0"},
	{"mattn (cgo)", "mattn", "1"},
}

// A sample is one measurement; rss is the process's largest resident set.
type sample struct{ wall, cpu, rss float64 }

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 9, "interleaved rounds")
	dir := flag.String("dir", os.TempDir(), "folder on the disk to measure")
	flag.Parse()
	if err := run(*rounds, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(rounds int, dir string) error {
	dir, err := os.MkdirTemp(dir, "sqlitedrivers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	var ready []driver
	size := map[string]float64{}
	for _, d := range drivers {
		build := exec.Command("go", "build", "-tags", d.tag, "-o", filepath.Join(dir, d.tag), "./sqlitedrivers/worker")
		build.Env = append(os.Environ(), "CGO_ENABLED="+d.cgo)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("%s left out: %s\n", d.name, out)
			continue
		}
		info, err := os.Stat(filepath.Join(dir, d.tag))
		if err != nil {
			return err
		}
		size[d.name] = float64(info.Size())
		ready = append(ready, d)
	}
	if len(ready) == 0 || ready[0].tag != "modernc" {
		return fmt.Errorf("the base driver did not build")
	}

	works := []string{"open", "publish", "read", "load", "stream"}
	got := map[string][]sample{} // by work and driver
	for round := range rounds {
		for _, work := range works { // drivers one right after the other, so that a disturbed moment hits all
			for i := range ready {
				d := ready[(i+round)%len(ready)] // nobody is always first
				data := filepath.Join(dir, d.tag+"-data")
				if work != "stream" { // streams what load has left
					if err := os.RemoveAll(data); err != nil {
						return err
					}
					if err := os.Mkdir(data, 0o700); err != nil {
						return err
					}
				}
				s, err := measure(filepath.Join(dir, d.tag), work, data)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", d.name, work, err)
				}
				got[work+d.name] = append(got[work+d.name], s)
			}
		}
	}

	fmt.Printf("%d rounds; each cell min / median / max of driver divided by modernc\n", rounds)
	fmt.Printf("%-10s %-6s", "", "")
	for _, d := range ready[1:] {
		fmt.Printf("  %-20s", d.name)
	}
	fmt.Println()
	for _, work := range works {
		for _, what := range []struct {
			name string
			of   func(sample) float64
		}{
			{"wall", func(s sample) float64 { return s.wall }},
			{"cpu", func(s sample) float64 { return s.cpu }},
			{"memory", func(s sample) float64 { return s.rss }},
		} {
			fmt.Printf("%-10s %-6s", work, what.name)
			for _, d := range ready[1:] {
				var ratios []float64
				for i, s := range got[work+d.name] {
					ratios = append(ratios, what.of(s)/what.of(got[work+ready[0].name][i]))
				}
				slices.Sort(ratios)
				fmt.Printf("  %4.2f / %4.2f / %4.2f  ", ratios[0], ratios[len(ratios)/2], ratios[len(ratios)-1])
			}
			fmt.Println()
		}
	}
	fmt.Printf("%-17s", "program size")
	for _, d := range ready[1:] {
		fmt.Printf("  %-20.2f", size[d.name]/size[ready[0].name])
	}
	fmt.Println()
	return nil
}

func measure(program, work, data string) (sample, error) {
	cmd := exec.Command(program, "-work", work, "-dir", data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	out, err := cmd.Output()
	wall := time.Since(start)
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s := sample{rss: float64(usage.Maxrss)}
	if work == "open" { // the whole life of a fresh process
		s.wall = float64(wall)
		s.cpu = float64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
		return s, nil
	}
	_, err = fmt.Sscan(string(out), &s.wall, &s.cpu)
	return s, err
}
