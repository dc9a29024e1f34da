package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// cutTransport breaks the first downloads of codes in the middle.
type cutTransport struct {
	cuts, downloads int
}

func (c *cutTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "applycodedownload") {
		return resp, err
	}
	if c.downloads++; c.downloads <= c.cuts {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(resp.Body, 700_000), iotest.ErrReader(errors.New("the connection was reset"))), resp.Body}
	}
	return resp, nil
}

// TestPrintRows_ResumesBrokenDownload verifies that the client requests the rest of a download that the server ended because the reader was
// slow (half a minute without a read), and that no row is lost or duplicated.
func TestPrintRows_ResumesBrokenDownload(t *testing.T) {
	t.Parallel()
	server := qrjumptest.Start(t)
	const appid, secret = "wxserviceacct0001", "secret0002"
	batch := server.Apply(appid, secret, 10_000)
	for _, cuts := range []int{0, 3} {
		transport := &cutTransport{cuts: cuts}
		wire, err := client.New(server.URL, client.Options{AppID: appid, Secret: secret, HTTP: &http.Client{Transport: transport}})
		require.NoError(t, err)
		src := rowSource{wire: wire, id: batch.ID, key: "0123456789abcdef", every: 1, pieces: []client.CodeRange{{From: 0, To: 9_999}}}
		next := int64(0)
		for r, err := range src.rows(t.Context(), 0) {
			require.NoErrorf(t, err, "%d cuts: after index %d", cuts, next-1)
			require.Equal(t, r.Index, next, "%d cuts: index", cuts)
			next++
		}
		assert.True(t, next == 10_000 && transport.downloads == cuts+1,
			"%d cuts: %d rows by %d downloads, want 10000 by %d", cuts, next, transport.downloads, cuts+1)
	}
	// A download without a row is not repeated: its error is returned.
	transport := &cutTransport{cuts: 1 << 30}
	wire, err := client.New(server.URL, client.Options{AppID: appid, Secret: secret, HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	src := rowSource{wire: wire, id: batch.ID, key: "another-key-here", every: 1, pieces: []client.CodeRange{{From: 0, To: 9_999}}}
	for _, err = range src.rows(t.Context(), 0) {
	}
	assert.True(t, errors.Is(err, client.ErrPackageKey) && transport.downloads == 1,
		"with a wrong key: %v after %d downloads, want %v after one", err, transport.downloads, client.ErrPackageKey)
}
