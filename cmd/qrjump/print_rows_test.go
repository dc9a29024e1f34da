package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// cutting ends the first downloads of codes in their middle.
type cutting struct {
	cuts, downloads int
}

func (c *cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "applycodedownload") {
		return resp, err
	}
	if c.downloads++; c.downloads <= c.cuts {
		resp.Body = &cutBody{resp.Body, 700_000}
	}
	return resp, nil
}

type cutBody struct {
	io.ReadCloser
	left int
}

var errCut = errors.New("the connection was reset")

func (c *cutBody) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// A server waits half a minute for a reader that draws slowly, and then cuts the
// download: the rest is asked for, and no row is lost or doubled.
func TestPrintRows_ResumesBrokenDownload(t *testing.T) {
	t.Parallel()
	server := qrjumptest.Start(t)
	const appid, secret = "wxserviceacct0001", "secret0002"
	batch := server.Apply(appid, secret, 10_000)
	for _, cuts := range []int{0, 3} {
		transport := &cutting{cuts: cuts}
		wire, err := client.New(server.URL, client.Options{AppID: appid, Secret: secret, HTTP: &http.Client{Transport: transport}})
		require.NoError(t, err)
		src := rowSource{wire: wire, id: batch.ID, key: "0123456789abcdef", every: 1, pieces: []client.CodeRange{{From: 0, To: 9_999}}}
		next := int64(0)
		for r, err := range src.rows(t.Context(), 0) {
			require.NoErrorf(t, err, "%d cuts: behind index %d", cuts, next-1)
			require.Equal(t, r.Index, next, "%d cuts", cuts)
			next++
		}
		assert.True(t, next == 10_000 && transport.downloads == cuts+1, "%d cuts: %d rows by %d downloads", cuts, next, transport.downloads)
	}
	// One that brings no row is not asked for again, and its own error is told.
	transport := &cutting{cuts: 1 << 30}
	wire, err := client.New(server.URL, client.Options{AppID: appid, Secret: secret, HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	src := rowSource{wire: wire, id: batch.ID, key: "another-key-here", every: 1, pieces: []client.CodeRange{{From: 0, To: 9_999}}}
	for _, err = range src.rows(t.Context(), 0) {
	}
	assert.True(t, errors.Is(err, client.ErrPackageKey) && transport.downloads == 1,
		"with another key: %v after %d downloads", err, transport.downloads)
}
