package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// program is a binary that was built, with the texts that belong to it.
type program struct {
	version
	os, arch string
	path     string
	size     int64
	info     *debug.BuildInfo
	licences []licence
}

// file is one that goes into an archive or a package.
type file struct {
	name string // in the archive
	text []byte
	mode int64
}

const versionPackage = "github.com/qrjump/qrjump/internal/infra/version"

// compile builds the program for a target. Nothing of this machine gets in.
func compile(root, work string, v version, target string) (*program, error) {
	goos, arch, ok := strings.Cut(target, "/")
	if !ok {
		return nil, fmt.Errorf("the platform %q: want GOOS/GOARCH, for example linux/amd64", target)
	}
	p := &program{version: v, os: goos, arch: arch, path: filepath.Join(work, "qrjump-"+goos+"-"+arch)}
	flags := strings.Join([]string{"-s", "-w", "-buildid=", "-X", versionPackage + ".number=" + v.number,
		"-X", versionPackage + ".commit=" + v.commit, "-X", versionPackage + ".date=" + v.stamp()}, " ")
	c := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", p.path, "./cmd/qrjump")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0",
		"GOEXPERIMENT=", "GOFIPS140=off")
	if said, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building for %s: %w\n%s", target, err, said)
	}
	about, err := os.Stat(p.path)
	if err != nil {
		return nil, err
	}
	p.size = about.Size()
	if p.info, err = buildinfo.ReadFile(p.path); err != nil {
		return nil, err
	}
	p.licences, err = licencesOf(root, p.info)
	return p, err
}

// name is what the files of a target begin with.
func (p *program) name() string { return fmt.Sprintf("qrjump-%s-%s-%s", p.number, p.os, p.arch) }

// beside are the files that every target has: completion, man pages, texts.
func beside(root string, own *program, work string) (files []file, err error) {
	for shell, name := range map[string]string{"bash": "completion/qrjump.bash", "zsh": "completion/_qrjump",
		"fish": "completion/qrjump.fish"} {
		text, err := output("", own.path, "completion", shell)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, []byte(text + "\n"), 0o644})
	}
	pages, chinese := filepath.Join(work, "man"), filepath.Join(work, "man-zh")
	for lang, dir := range map[string]string{"en": pages, "zh": chinese} {
		if _, err := output("", own.path, "help", "--lang", lang, "--man", dir); err != nil {
			return nil, err
		}
	}
	for pattern, into := range map[string]string{pages + "/*.1": "man/man1/", pages + "/*.5": "man/man5/",
		chinese + "/*.1": "man/zh_CN/man1/", chinese + "/*.5": "man/zh_CN/man5/", root + "/LICENSE": "",
		root + "/release/package/README*.md": "", root + "/CHANGELOG.md": "", root + "/deploy/systemd/qrjump.service": "deploy/",
		root + "/deploy/prometheus/*.yaml": "deploy/prometheus/", root + "/deploy/grafana/*.json": "deploy/grafana/"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: there is no such file (%v)", pattern, err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			files = append(files, file{into + filepath.Base(path), text, 0o644})
		}
	}
	return files, nil
}

// archive writes the tar.gz of a target, for Windows a zip.
func (p *program) archive(out string, common []file) error {
	name, binary, err := p.binary()
	if err != nil {
		return err
	}
	files := append([]file{{name, binary, 0o755}, {"LICENCES.txt", licencesText(p.licences), 0o644}}, common...)
	files = inOrder(files)
	pack, end := packTar, ".tar.gz"
	if p.os == "windows" {
		pack, end = packZip, ".zip"
	}
	var b bytes.Buffer
	if err := pack(&b, p.name(), p.date, files); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, p.name()+end), b.Bytes(), 0o644)
}

func packTar(w io.Writer, folder string, at time.Time, files []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: folder + "/" + f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: at, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.text); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

func packZip(w io.Writer, folder string, at time.Time, files []file) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		h := &zip.FileHeader{Name: path.Join(folder, f.name), Method: zip.Deflate, Modified: at}
		h.SetMode(os.FileMode(f.mode))
		one, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := one.Write(f.text); err != nil {
			return err
		}
	}
	return z.Close()
}
