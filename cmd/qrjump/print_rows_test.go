package main

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// cutTransport breaks the first downloads of codes after limit bytes.
type cutTransport struct {
	cuts, downloads int
	limit           int64
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
		}{io.MultiReader(io.LimitReader(resp.Body, c.limit), iotest.ErrReader(errors.New("the connection was reset"))), resp.Body}
	}
	return resp, nil
}

// TestPrintRows_ResumesBrokenDownload verifies that the client requests the rest of a download that the server ended because the reader was
// slow (half a minute without a read), and that no row is lost, duplicated or truncated, regardless of where in a row the download ended.
func TestPrintRows_ResumesBrokenDownload(t *testing.T) {
	t.Parallel()
	server := qrjumptest.Start(t)
	const appid, secret, key = "wxserviceacct0001", "secret0002", "0123456789abcdef"
	batch := server.Apply(appid, secret, 10_000)
	newSource := func(transport *cutTransport, key string, r client.CodeRange) *rowSource {
		wire, err := client.New(server.URL, client.Options{AppID: appid, Secret: secret, HTTP: &http.Client{Transport: transport}})
		require.NoError(t, err)
		return &rowSource{wire: wire, id: batch.ID, key: key, every: 1, pieces: []client.CodeRange{r}}
	}
	full := client.CodeRange{From: 0, To: 9_999}
	want := require.All(t, newSource(&cutTransport{}, key, full).rows(t.Context(), 0))
	require.Equal(t, len(want), 10_000, "rows of an unbroken download")
	check := func(transport *cutTransport, r client.CodeRange, downloads int, name string) {
		t.Helper()
		got := require.All(t, newSource(transport, key, r).rows(t.Context(), 0))
		assert.True(t, slices.Equal(got, want[r.From:r.To+1]), "%s: rows %v differ from those of an unbroken download", name, r)
		assert.Equal(t, transport.downloads, downloads, "%s: downloads", name)
	}
	check(&cutTransport{cuts: 3, limit: 700_000}, full, 4, "three cuts")
	// The client decrypts whole blocks: rowBytes is the number of bytes that it returns before the cut, for each range that is long enough.
	const limit = 240_000
	pkg := require.Value(newSource(&cutTransport{cuts: 1, limit: limit}, key, full).wire.Wire.DownloadCodes(t.Context(), batch.ID, full))(t)
	opened, err := client.Rows(pkg, key)
	require.NoError(t, err)
	rowBytes, _ := io.Copy(io.Discard, opened)
	require.NoError(t, pkg.Close())
	// A line has length bytes if its index has four digits, and one byte less if it has three; so each index of three digits at the
	// beginning of the range moves the cut by one byte.
	length := int64(len(want[1000].Matrix) + len(want[1000].Code) + len("1000") + len(want[1000].Text) + len("   \n"))
	for name, before := range map[string]int64{"at the end of a row": 0, "before a line break": 1, "before the last character": 2,
		"in a text": 12, "in a matrix": length / 2} {
		from := 1000 - (length-(rowBytes+before)%length)%length
		check(&cutTransport{cuts: 1, limit: limit}, client.CodeRange{From: from, To: 1_999}, 2, name)
	}
	// A download without a row is not repeated: its error is returned.
	transport := &cutTransport{cuts: 1 << 30, limit: 700_000}
	for _, err = range newSource(transport, "another-key-here", full).rows(t.Context(), 0) {
	}
	assert.True(t, errors.Is(err, client.ErrPackageKey) && transport.downloads == 1,
		"with a wrong key: %v after %d downloads, want %v after one", err, transport.downloads, client.ErrPackageKey)
}
