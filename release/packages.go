package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

const (
	homepage = "https://github.com/qrjump/qrjump"
	about    = "self-hosted server for QR-code jump rules and one-item codes"
)

// packages writes the .deb and the .rpm of a program.
func (p *program) packages(root, out, work string, common []file) error {
	staged := filepath.Join(work, "stage-"+p.arch)
	var contents files.Contents
	put := func(to string, text []byte, mode os.FileMode, kind, only string) error {
		from := filepath.Join(staged, to)
		if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(from, text, 0o644); err != nil {
			return err
		}
		contents = append(contents, &files.Content{Source: from, Destination: to, Type: kind, Packager: only,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: p.date}})
		return nil
	}
	binary, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	if err := put("/usr/bin/qrjump", binary, 0o755, "", ""); err != nil {
		return err
	}
	if err := put("/usr/share/doc/qrjump/LICENCES.txt", licencesText(p.licences), 0o644, "", ""); err != nil {
		return err
	}
	places := map[string]string{
		"completion/qrjump.bash": "/usr/share/bash-completion/completions/qrjump",
		"completion/qrjump.fish": "/usr/share/fish/vendor_completions.d/qrjump.fish",
		"deploy/qrjump.service":  "/usr/lib/systemd/system/qrjump.service",
	}
	for _, f := range inOrder(common) {
		to, text, only := cmp.Or(places[f.name], "/usr/share/doc/qrjump/"+f.name), f.text, ""
		switch f.name {
		case "completion/_qrjump": // distributions differ
			if err := put("/usr/share/zsh/vendor-completions/_qrjump", text, 0o644, "", "deb"); err != nil {
				return err
			}
			to, only = "/usr/share/zsh/site-functions/_qrjump", "rpm"
		case "LICENSE": // Debian has the text, and wants a notice in its place
			notice, err := os.ReadFile(filepath.Join(root, "release", "package", "deb", "copyright"))
			if err != nil {
				return err
			}
			if err := put("/usr/share/doc/qrjump/copyright", notice, 0o644, "", "deb"); err != nil {
				return err
			}
			only = "rpm"
		}
		if strings.HasPrefix(f.name, "man/") {
			to, text = "/usr/share/"+f.name+".gz", zipped(text)
		}
		if err := put(to, text, 0o644, "", only); err != nil {
			return err
		}
	}
	example, err := os.ReadFile(filepath.Join(root, "release", "package", "qrjump.yaml"))
	if err != nil {
		return err
	}
	if err := put("/etc/qrjump/qrjump.yaml", example, 0o644, files.TypeConfigNoReplace, ""); err != nil {
		return err
	}
	for kind, scripts := range map[string]string{"deb": "deb", "rpm": "rpm"} {
		script := func(name string) string { return filepath.Join(root, "release", "package", scripts, name) }
		info := nfpm.WithDefaults(&nfpm.Info{Name: "qrjump", Arch: p.arch, Platform: "linux", Version: p.number, VersionSchema: "semver",
			Release: "1", Section: "net", Priority: "optional", Maintainer: "The qrjump authors <qrjump@users.noreply.github.com>",
			Description: about + "\nIt answers what a phone opens for a scanned code, and keeps the rules\nand codes of accounts.",
			Homepage:    homepage, License: "Apache-2.0", MTime: p.date,
			Overridables: nfpm.Overridables{Contents: copied(contents), Umask: 0o022,
				Scripts: nfpm.Scripts{PostInstall: script("postinst"), PreRemove: script("prerm"), PostRemove: script("postrm")},
				// Without a name the machine's own would be in the package.
				RPM: nfpm.RPM{BuildHost: "release", Summary: about},
				Deb: nfpm.Deb{Compression: "gzip"},
			}})
		switch kind {
		case "deb":
			info.Depends = []string{"adduser"}
			info.Recommends = []string{"ca-certificates", "systemd"}
		case "rpm":
			info.Depends = []string{"shadow-utils"}
			info.Recommends = []string{"ca-certificates", "systemd"}
		}
		if err := nfpm.PrepareForPackager(info, kind); err != nil {
			return fmt.Errorf("%s for %s: %w", kind, p.arch, err)
		}
		packager, err := nfpm.Get(kind)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := packager.Package(info, &b); err != nil {
			return fmt.Errorf("%s for %s: %w", kind, p.arch, err)
		}
		if err := os.WriteFile(filepath.Join(out, packager.ConventionalFileName(info)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copied are contents of their own, since a packager changes what it is given.
func copied(contents files.Contents) (list files.Contents) {
	for _, c := range contents {
		one, about := *c, *c.FileInfo
		one.FileInfo = &about
		list = append(list, &one)
	}
	return list
}

// zipped is text as gzip, without a name or a time.
func zipped(text []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one that is there
	_, _ = z.Write(text)                                  // into memory
	_ = z.Close()
	return b.Bytes()
}
