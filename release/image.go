package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the image.
const nobody = 65532

// writeImage writes an OCI image for the programs, one index over all, as one tar
// that a registry's tools read. No engine is needed, and nothing is fetched.
func writeImage(out, work string, v version, programs []*program, common []file) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range programs {
		image, err := p.image(common)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}}})
	}
	dir := filepath.Join(work, "image")
	where, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := where.AppendIndex(index, layout.WithAnnotations(
		map[string]string{"org.opencontainers.image.ref.name": v.number})); err != nil {
		return err
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error { // in the order of names
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return add(t, tar.Header{Name: name, Mode: 0o644, ModTime: v.date}, text)
	})
	if err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "qrjump-"+v.number+".oci.tar"), b.Bytes(), 0o644)
}

func (p *program) image(common []file) (v1.Image, error) {
	binary, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, one := range []struct {
		tar.Header
		text []byte
	}{
		{tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("qrjump:x:65532:65532::/var/lib/qrjump:/nothing\n")},
		{tar.Header{Name: "etc/group", Mode: 0o644}, []byte("qrjump:x:65532:\n")},
		{tar.Header{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644}, roots.Bytes()},
		{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil},
		{tar.Header{Name: "usr/bin/qrjump", Mode: 0o755}, binary},
		{tar.Header{Name: "usr/share/doc/qrjump/LICENCES.txt", Mode: 0o644}, licencesText(p.licences)},
		{tar.Header{Name: "usr/share/doc/qrjump/LICENSE", Mode: 0o644}, named(common, "LICENSE")},
		{tar.Header{Name: "var/lib/qrjump/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: nobody, Gid: nobody}, nil},
	} {
		one.ModTime = p.date
		if err := add(t, one.Header, one.text); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
		History: v1.History{CreatedBy: "release", Created: v1.Time{Time: p.date}}})
	if err != nil {
		return nil, err
	}
	c, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created, c.Author = p.os, p.arch, v1.Time{Time: p.date}, ""
	c.Config = v1.Config{User: "65532:65532", Entrypoint: []string{"/usr/bin/qrjump"}, Cmd: []string{"serve"},
		WorkingDir:   "/var/lib/qrjump",
		Env:          []string{"PATH=/usr/bin", "QRJUMP_DATA=/var/lib/qrjump", "QRJUMP_LISTEN=0.0.0.0:8080"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/qrjump": {}},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/usr/bin/qrjump", "health"}, Interval: 10e9, Timeout: 5e9, StartPeriod: 30e9,
			Retries: 3},
		Labels: map[string]string{"org.opencontainers.image.title": "qrjump", "org.opencontainers.image.description": about,
			"org.opencontainers.image.version": p.number, "org.opencontainers.image.revision": p.commit,
			"org.opencontainers.image.created":  p.stamp(),
			"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.source": homepage}}
	return mutate.ConfigFile(image, c)
}

func named(files []file, name string) []byte {
	for _, f := range files {
		if f.name == name {
			return f.text
		}
	}
	return nil
}

func add(t *tar.Writer, h tar.Header, text []byte) error {
	h.Size = int64(len(text))
	if err := t.WriteHeader(&h); err != nil {
		return err
	}
	_, err := t.Write(text)
	return err
}
