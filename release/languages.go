package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// wheelTags are the platforms of a wheel. The program needs no libc, so one serves both of Linux; the oldest macOS is Go's.
var wheelTags = map[string]string{
	"linux/amd64":   "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
	"linux/arm64":   "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
	"darwin/amd64":  "macosx_12_0_x86_64",
	"darwin/arm64":  "macosx_12_0_arm64",
	"windows/amd64": "win_amd64",
	"windows/arm64": "win_arm64",
}

// What npm calls systems and processors.
var (
	npmSystems    = map[string]string{"linux": "linux", "darwin": "darwin", "windows": "win32"}
	npmProcessors = map[string]string{"amd64": "x64", "arm64": "arm64"}
)

// wheelNumber is a version as Python writes it: 0.1.0-dev.7 is 0.1.0.dev7, 0.2.0-rc.1 is 0.2.0rc1.
func wheelNumber(number string) (string, error) {
	core, rest, before := strings.Cut(number, "-")
	if !before {
		return core, nil
	}
	kind, n, ok := strings.Cut(rest, ".")
	switch {
	case ok && kind == "dev":
		return core + ".dev" + n, nil
	case ok && (kind == "rc" || kind == "alpha" || kind == "beta"):
		return core + strings.NewReplacer("alpha", "a", "beta", "b").Replace(kind) + n, nil
	}
	return "", fmt.Errorf("the version %s has no form that pip knows: want -dev.N, -alpha.N, -beta.N or -rc.N", number)
}

// binary is the program under the name that it has on its system.
func (p *program) binary() (name string, text []byte, err error) {
	name = "qrjump"
	if p.os == "windows" {
		name += ".exe"
	}
	text, err = os.ReadFile(p.path)
	return name, text, err
}

// languages writes the program as a wheel, which pip puts beside Python, and as a package of npm, which puts it into
// node_modules/.bin. Neither has code of its own.
func (p *program) languages(out string, common []file) error {
	name, binary, err := p.binary()
	if err != nil {
		return err
	}
	var texts []file
	for _, f := range common {
		if f.name == "LICENSE" || f.name == "README.md" {
			texts = append(texts, f)
		}
	}
	texts = append(texts, file{"LICENCES.txt", licencesText(p.licences), 0o644})
	if err := p.wheel(out, name, binary, texts); err != nil {
		return err
	}
	return p.npm(out, name, binary, texts)
}

func (p *program) wheel(out, name string, binary []byte, texts []file) error {
	tag, known := wheelTags[p.os+"/"+p.arch]
	if !known {
		return fmt.Errorf("no wheel is for %s/%s", p.os, p.arch)
	}
	number, err := wheelNumber(p.number)
	if err != nil {
		return err
	}
	info := "qrjump-" + number + ".dist-info/"
	var metadata, kind strings.Builder
	fmt.Fprintf(&metadata, "Metadata-Version: 2.4\nName: qrjump\nVersion: %s\nSummary: %s\nHome-page: %s\nLicense-Expression: Apache-2.0\n"+
		"Description-Content-Type: text/markdown\n", number, about, homepage)
	kind.WriteString("Wheel-Version: 1.0\nGenerator: qrjump\nRoot-Is-Purelib: false\n")
	for one := range strings.SplitSeq(tag, ".") {
		fmt.Fprintf(&kind, "Tag: py3-none-%s\n", one)
	}
	files := []file{{"qrjump-" + number + ".data/scripts/" + name, binary, 0o755}}
	for _, f := range texts {
		if f.name == "README.md" {
			fmt.Fprintf(&metadata, "\n%s", f.text)
			continue
		}
		files = append(files, file{info + "licenses/" + f.name, f.text, 0o644})
	}
	files = append(files, file{info + "METADATA", []byte(metadata.String()), 0o644}, file{info + "WHEEL", []byte(kind.String()), 0o644})
	var record strings.Builder
	for _, f := range files {
		sum := sha256.Sum256(f.text)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.text))
	}
	files = append(files, file{info + "RECORD", []byte(record.String() + info + "RECORD,,\n"), 0o644})
	var b bytes.Buffer
	if err := packZip(&b, "", p.date, files); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, fmt.Sprintf("qrjump-%s-py3-none-%s.whl", number, tag)), b.Bytes(), 0o644)
}

func (p *program) npm(out, name string, binary []byte, texts []file) error {
	system, processor := npmSystems[p.os], npmProcessors[p.arch]
	if system == "" || processor == "" {
		return fmt.Errorf("no package of npm is for %s/%s", p.os, p.arch)
	}
	manifest, err := json.MarshalIndent(struct {
		Name        string            `json:"name"`
		Version     string            `json:"version"`
		Description string            `json:"description"`
		Homepage    string            `json:"homepage"`
		License     string            `json:"license"`
		Bin         map[string]string `json:"bin"`
		OS          []string          `json:"os"`
		CPU         []string          `json:"cpu"`
	}{"qrjump", p.number, about, homepage, "Apache-2.0", map[string]string{"qrjump": "bin/" + name}, []string{system},
		[]string{processor}}, "", "  ")
	if err != nil {
		return err
	}
	files := append([]file{{"package.json", append(manifest, '\n'), 0o644}, {"bin/" + name, binary, 0o755}}, texts...)
	var b bytes.Buffer
	if err := packTar(&b, "package", p.date, files); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, fmt.Sprintf("qrjump-%s-npm-%s-%s.tgz", p.number, system, processor)), b.Bytes(), 0o644)
}
