package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestReleaseVersion_FromGitDescribe(t *testing.T) {
	for described, want := range map[string]string{
		"v0.1.0-0-gabc":      "0.1.0",
		"v0.1.0-7-gabc":      "0.1.1-dev.7",
		"v1.2.9-1-gabc":      "1.2.10-dev.1",
		"v0.2.0-rc.1-0-gabc": "0.2.0-rc.1",
		"v0.2.0-rc.1-3-gabc": "0.2.0-dev.3",
		"v0.0.999-159-g0":    "0.1.0-dev.159",
		"nightly":            "",
		"v1-2-gabc":          "",
		"v1.2.x-2-gabc":      "",
	} {
		if got, err := numberOf(described); got != want || (err != nil) != (want == "") {
			t.Errorf("numberOf(%s) = %q, %v, want %q", described, got, err, want)
		}
	}
}

// TestRelease_MissingLicense verifies that a module without a licence is an error, and that a licence is read and classified.
func TestRelease_MissingLicense(t *testing.T) {
	dir := t.TempDir()
	l := licence{module: "example.com/part", version: "v1.0.0"}
	if err := l.read(dir); err == nil {
		t.Error("read of a folder without a licence succeeds, want an error")
	}
	for name, text := range map[string]string{"LICENSE.md": "Apache License\r\nVersion 2.0, January 2004", "licence.go": "package licence",
		"NOTICE": "thanks"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.read(dir); err != nil || l.id != "Apache-2.0" || !bytes.Contains(licencesText([]licence{l}), []byte("thanks")) ||
		bytes.Contains([]byte(l.text), []byte("package licence")) {
		t.Errorf("read = %v, %+v, want Apache-2.0 with its notice and without Go code", err, l)
	}
	if got := spdx("do as you like"); got != "" {
		t.Errorf("spdx(do as you like) = %s, want none", got)
	}
}

func TestReleaseArchive_Reproducible(t *testing.T) {
	files := func() []file {
		return inOrder([]file{{"b", []byte("2"), 0o755}, {"a", []byte("1"), 0o644}})
	}
	date := time.Unix(1_700_000_000, 0).UTC()
	for name, pack := range map[string]func(io.Writer, string, time.Time, []file) error{"tar": packTar, "zip": packZip} {
		var first, second bytes.Buffer
		if err := errors.Join(pack(&first, "x", date, files()), pack(&second, "x", date, files())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("two %s archives of the same files differ", name)
		}
		if name != "tar" {
			continue
		}
		z, err := gzip.NewReader(&first)
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(z).Next()
		if err != nil || h.Name != "x/a" || !h.ModTime.Equal(date) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("first header = %+v, %v, want x/a with the fixed date and no user", h, err)
		}
	}
}

// TestRelease_PipAndNpmInstall installs the packages with pip and npm and runs the program. npm must reject the package of another system.
func TestRelease_PipAndNpmInstall(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "program")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho it says \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	v := version{number: "0.1.0-dev.7", date: time.Unix(1_700_000_000, 0).UTC()}
	common := []file{{"LICENSE", []byte("as you like"), 0o644}, {"README.md", []byte("# qrjump"), 0o644}}
	for target := range wheelTags {
		system, processor, _ := strings.Cut(target, "/")
		p := &program{version: v, os: system, arch: processor, path: script}
		if err := p.languages(dir, common); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS != "linux" {
		t.Skip("the program of this test is a script of Linux")
	}
	wheel := filepath.Join(dir, "qrjump-0.1.0.dev7-py3-none-"+wheelTags[runtime.GOOS+"/"+runtime.GOARCH]+".whl")
	tgz := func(system string) string {
		return filepath.Join(dir, "qrjump-0.1.0-dev.7-npm-"+system+"-"+npmProcessors[runtime.GOARCH]+".tgz")
	}
	run := func(name string, args ...string) (string, error) {
		c := exec.Command(name, args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		return string(out), err
	}
	mustRun := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		out, err := run(name, args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return out
	}
	checkProgram := func(program string) {
		t.Helper()
		if out, err := run(filepath.Join(dir, program), "run", "--", "it"); err != nil || out != "it says run -- it\n" {
			t.Errorf("%s run -- it prints %q, %v, want its arguments", program, out, err)
		}
	}
	t.Run("pip", func(t *testing.T) {
		if _, err := exec.LookPath("python3"); err != nil {
			t.Skip("there is no python3")
		}
		mustRun(t, "python3", "-m", "venv", "venv")
		mustRun(t, "venv/bin/pip", "install", "--no-index", "--disable-pip-version-check", wheel)
		checkProgram("venv/bin/qrjump")
		out := mustRun(t, "venv/bin/pip", "show", "--files", "qrjump")
		if !strings.Contains(out, "Version: 0.1.0.dev7") || !strings.Contains(out, "bin/qrjump") {
			t.Errorf("pip show prints %s, want the version 0.1.0.dev7 and bin/qrjump", out)
		}
	})
	t.Run("npm", func(t *testing.T) {
		if _, err := exec.LookPath("npm"); err != nil {
			t.Skip("there is no npm")
		}
		if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "npm", "install", "--offline", "--no-audit", "--no-fund", tgz("linux"))
		checkProgram("node_modules/.bin/qrjump")
		out, err := run("npm", "install", "--offline", "--no-audit", "--no-fund", tgz("win32"))
		if err == nil || !strings.Contains(out, "EBADPLATFORM") {
			t.Errorf("npm install of the package for Windows: %v, %s, want EBADPLATFORM", err, out)
		}
	})
}

func TestReleaseWheel_VersionNumber(t *testing.T) {
	for number, want := range map[string]string{"0.1.0": "0.1.0", "0.1.0-dev.7": "0.1.0.dev7", "0.2.0-rc.1": "0.2.0rc1",
		"0.2.0-beta.2": "0.2.0b2", "0.2.0-nightly": ""} {
		if got, err := wheelNumber(number); got != want || (err != nil) != (want == "") {
			t.Errorf("wheelNumber(%s) = %q, %v, want %q", number, got, err, want)
		}
	}
}
