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

// TestVersion_SameEverywhere verifies that the command line, the OpenAPI document and an archive have the same version.
func TestVersion_SameEverywhere(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newTestServer(t)
	setEnvironment(t, map[string]string{"SERVER": w.addr.Wire, "ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.vars["TOKEN"]})
	want := version.Number()

	code, out, _ := runVerb(t, verbCase{path: "version", words: "--output=json"}, w.vars)
	var info version.Info
	err := json.Unmarshal([]byte(out), &info)
	assert.True(t, code == 0 && err == nil && info.Version == want, "qrjump version: exit %d, %s, %v, want %s", code, out, err, want)

	r := require.Value(http.Get(w.addr.Wire + "/openapi.json"))(t)
	defer r.Body.Close()
	var document struct{ Info struct{ Version string } }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&document))
	assert.Equal(t, document.Info.Version, want, "version in openapi.json")

	file := filepath.Join(w.dir, "archive")
	code, _, errs := runVerb(t, verbCase{path: "export", words: file + " --passphrase-file $PASSPHRASE"}, w.vars)
	require.True(t, code == 0, "export: exit %d, want 0: %s", code, errs)
	archive := require.Value(os.Open(file))(t)
	defer archive.Close()
	unzipped := require.Value(gzip.NewReader(archive))(t)
	files := tar.NewReader(unzipped)
	header, err := files.Next()
	for err == nil && header.Name != "manifest.json" {
		header, err = files.Next()
	}
	require.NoErrorf(t, err, "manifest.json in the archive")
	manifest, err := io.ReadAll(files)
	assert.True(t, err == nil && bytes.Contains(manifest, []byte(`"program": "qrjump `+want+`"`)),
		"manifest.json = %.200s, %v, want the program %s", manifest, err, want)
}

func TestVersion_HumanOutput(t *testing.T) {
	_, out, _ := runVerb(t, verbCase{path: "version"}, nil)
	assert.True(t, strings.HasPrefix(out, "qrjump "+version.Number()+" "), "qrjump version prints %q, want name and number first", out)
}
