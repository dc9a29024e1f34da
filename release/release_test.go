package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheNumberIsThatOfTheTagOrOfTheWayToTheNext(t *testing.T) {
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
			t.Errorf("%s is %q, %v, want %q", described, got, err, want)
		}
	}
}

// Issue 16, 8: a part without a licence stops the release.
func TestAPartWithoutALicenceStopsTheRelease(t *testing.T) {
	dir := t.TempDir()
	l := licence{module: "example.com/part", version: "v1.0.0"}
	if err := l.read(dir); err == nil {
		t.Error("a folder without a licence was taken")
	}
	for name, text := range map[string]string{"LICENSE.md": "Apache License\r\nVersion 2.0, January 2004", "licence.go": "package licence",
		"NOTICE": "thanks"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.read(dir); err != nil || l.id != "Apache-2.0" || !bytes.Contains(licencesText([]licence{l}), []byte("thanks")) ||
		bytes.Contains([]byte(l.text), []byte("package licence")) {
		t.Errorf("%v: %+v", err, l)
	}
	if got := spdx("do as you like"); got != "" {
		t.Errorf("that is no %s", got)
	}
}

func TestAnArchiveIsTheSameEachTime(t *testing.T) {
	files := func() []file {
		return inOrder([]file{{"b", []byte("2"), 0o755}, {"a", []byte("1"), 0o644}})
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	for name, pack := range map[string]func(io.Writer, string, time.Time, []file) error{"tar": packTar, "zip": packZip} {
		var one, two bytes.Buffer
		if err := errors.Join(pack(&one, "x", at, files()), pack(&two, "x", at, files())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s differs", name)
		}
		if name != "tar" {
			continue
		}
		z, err := gzip.NewReader(&one)
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(z).Next()
		if err != nil || h.Name != "x/a" || !h.ModTime.Equal(at) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%+v, %v", h, err)
		}
	}
}
