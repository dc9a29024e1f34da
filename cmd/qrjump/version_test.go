package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 16, 8: the command line, the document and an archive say one version.
func TestVersion_SameEverywhere(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newWorld(t)
	environment(t, map[string]string{"SERVER": w.addr.Wire, "ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.found["TOKEN"]})
	want := version.Number()

	code, out, _ := play(t, verb{path: "version", words: "--output=json"}, w.found)
	var tr version.Info
	err := json.Unmarshal([]byte(out), &tr)
	assert.True(t, code == 0 && err == nil && tr.Version == want, "the command line says %s, %v, want %s", out, err, want)

	r, err := http.Get(w.addr.Wire + "/openapi.json")
	require.NoError(t, err)
	defer r.Body.Close()
	var document struct{ Info struct{ Version string } }
	err = json.NewDecoder(r.Body).Decode(&document)
	assert.True(t, err == nil && document.Info.Version == want, "the document says %q, %v, want %q", document.Info.Version, err, want)

	file := filepath.Join(w.dir, "archive")
	code, _, errs := play(t, verb{path: "export", words: file + " --passphrase-file $PASSPHRASE"}, w.found)
	require.True(t, code == 0, "%v", errs)
	archive, err := os.Open(file)
	require.NoError(t, err)
	defer archive.Close()
	unzipped, err := gzip.NewReader(archive)
	require.NoError(t, err)
	files := tar.NewReader(unzipped)
	header, err := files.Next()
	for err == nil && header.Name != "manifest.json" {
		header, err = files.Next()
	}
	require.NoErrorf(t, err, "manifest.json in the archive")
	manifest, err := io.ReadAll(files)
	assert.True(t, err == nil && bytes.Contains(manifest, []byte(`"program": "qrjump `+want+`"`)),
		"the archive says %.200s, %v, want %s", manifest, err, want)
}

func TestVersion_HumanOutput(t *testing.T) {
	_, out, _ := play(t, verb{path: "version"}, nil)
	assert.True(t, strings.HasPrefix(out, "qrjump "+version.Number()+" "), "%v", out)
}
