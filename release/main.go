// Command release builds what people install: binaries, archives, Debian and RPM
// packages, wheels, packages of npm, an image, a list of parts and sums, all from one commit and without a
// network once the modules are here. The same commit gives the same bytes.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// platforms are those that people install on.
const platforms = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64"

func main() {
	out := flag.String("out", "../dist", "folder for what is built; it is made anew")
	only := flag.String("platforms", platforms, "what to build for, as GOOS/GOARCH")
	dirty := flag.Bool("dirty", false, "build although files are changed; the version says so")
	check := flag.Bool("check", false, "build twice, in two folders, and compare every byte; nothing is left in -out")
	flag.Parse()
	if err := run(*out, strings.Split(*only, ","), *dirty, *check); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(out string, targets []string, dirty, check bool) error {
	root, err := output("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	v, err := versionOf(root, dirty)
	if err != nil {
		return err
	}
	if check {
		return compareTwo(root, v, targets)
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := build(root, out, v, targets); err != nil {
		return err
	}
	fmt.Printf("qrjump %s (%.12s of %s) is in %s\n", v.number, v.commit, v.stamp(), out)
	return nil
}

// version says what is built.
type version struct {
	number, commit string
	date           time.Time // of the commit
}

func (v version) stamp() string { return v.date.Format(time.RFC3339) }

// versionOf reads the tag of the commit. A commit without one is on its way to
// the next: 0.1.1-dev.7 is the seventh after v0.1.0.
func versionOf(root string, dirty bool) (v version, err error) {
	if v.commit, err = output(root, "git", "rev-parse", "HEAD"); err != nil {
		return v, err
	}
	text, err := output(root, "git", "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return v, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return v, err
	}
	v.date = time.Unix(seconds, 0).UTC()
	described, err := output(root, "git", "describe", "--tags", "--long", "--match", "v[0-9]*")
	if err != nil { // no tag yet
		count, err := output(root, "git", "rev-list", "--count", "HEAD")
		if err != nil {
			return v, err
		}
		described = "v0.0.999-" + count + "-g0"
	}
	if v.number, err = numberOf(described); err != nil {
		return v, err
	}
	changed, err := output(root, "git", "status", "--porcelain", "--untracked-files=no")
	if err != nil || changed == "" {
		return v, err
	}
	if !dirty {
		return v, fmt.Errorf("files are changed since the commit; commit them, or say -dirty:\n%s", changed)
	}
	v.commit += "+changes"
	return v, nil
}

// numberOf is the version that "v0.1.0-7-gabc" stands for.
func numberOf(described string) (string, error) {
	parts := strings.Split(described, "-")
	if len(parts) < 3 {
		return "", fmt.Errorf("git describes the commit as %q: want a tag as v0.1.0", described)
	}
	tag, since := strings.TrimPrefix(strings.Join(parts[:len(parts)-2], "-"), "v"), parts[len(parts)-2]
	if since == "0" {
		return tag, nil
	}
	if tag == "0.0.999" { // before the first tag
		return "0.1.0-dev." + since, nil
	}
	core, _, _ := strings.Cut(tag, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != 3 {
		return "", fmt.Errorf("the tag v%s is no version: want three numbers, as v0.1.0", tag)
	}
	if core == tag {
		last, err := strconv.Atoi(numbers[2])
		if err != nil {
			return "", fmt.Errorf("the tag v%s is no version: %w", tag, err)
		}
		core = fmt.Sprintf("%s.%s.%d", numbers[0], numbers[1], last+1)
	}
	return core + "-dev." + since, nil
}

// build writes everything for the targets into out.
func build(root, out string, v version, targets []string) error {
	work, err := os.MkdirTemp("", "qrjump-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	// What every archive has, written by the program itself.
	here := runtime.GOOS + "/" + runtime.GOARCH
	own, err := compile(root, work, v, here)
	if err != nil {
		return err
	}
	common, err := beside(root, own, work)
	if err != nil {
		return err
	}
	var images []*program
	for _, target := range targets {
		p, err := compile(root, work, v, target)
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %6.1f MB, %d modules\n", target, float64(p.size)/1e6, len(p.info.Deps))
		if err := p.archive(out, common); err != nil {
			return err
		}
		if _, known := wheelTags[target]; !known {
			fmt.Printf("%-14s no wheel and no package of npm: neither has a name for it\n", target)
		} else if err := p.languages(out, common); err != nil {
			return err
		}
		if err := p.bill(out); err != nil {
			return err
		}
		if p.os == "linux" {
			if err := p.packages(root, out, work, common); err != nil {
				return err
			}
			images = append(images, p)
		}
	}
	if len(images) > 0 {
		if err := writeImage(out, work, v, images, common); err != nil {
			return err
		}
	}
	return sums(out)
}

// sums writes the SHA-256 of every file.
func sums(out string) error {
	all, err := hashes(out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range sorted(all) {
		fmt.Fprintf(&b, "%s  %s\n", all[name], name)
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(b.String()), 0o644)
}

func hashes(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all, nil
}

func sorted(all map[string]string) (names []string) {
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// compareTwo builds the commit in two folders with nothing in common but the
// modules: other paths, another TMPDIR, an empty build cache.
func compareTwo(root string, v version, targets []string) error {
	if strings.HasSuffix(v.commit, "+changes") {
		return errors.New("only a commit can be compared: commit your changes")
	}
	base, err := os.MkdirTemp("", "qrjump-twice-")
	if err != nil {
		return err
	}
	defer func() {
		_ = exec.Command("chmod", "-R", "u+w", base).Run()
		_ = os.RemoveAll(base)
	}()
	var results [2]map[string]string
	for i, name := range []string{"one", "another/place/further/down"} {
		tree, out, tmp := filepath.Join(base, name, "tree"), filepath.Join(base, name, "out"), filepath.Join(base, name, "tmp")
		for _, dir := range []string{tree, tmp} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if _, err := output(root, "sh", "-c", `git archive HEAD | tar -x -C "$0"`, tree); err != nil {
			return err
		}
		os.Setenv("TMPDIR", tmp)
		if i == 1 {
			os.Setenv("GOCACHE", filepath.Join(base, name, "cache"))
		}
		if err := build(tree, out, v, targets); err != nil {
			return err
		}
		if results[i], err = hashes(out); err != nil {
			return err
		}
	}
	var different []string
	for _, name := range sorted(results[0]) {
		if results[1][name] != results[0][name] {
			different = append(different, name)
		}
	}
	if len(different) > 0 || len(results[0]) != len(results[1]) {
		return fmt.Errorf("built twice, these differ: %s", strings.Join(different, ", "))
	}
	fmt.Printf("built twice, %d files are equal byte by byte\n", len(results[0]))
	return nil
}

// output runs a command and returns what it prints, without the end of the line.
func output(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	b, err := c.Output()
	if err != nil {
		said := ""
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			said = ": " + strings.TrimSpace(string(e.Stderr))
		}
		return "", fmt.Errorf("%s %s: %w%s", name, strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(b)), nil
}
