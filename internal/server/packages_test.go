package server_test

import (
	"bytes"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// recallingWriter calls recall before the first bytes are written to it, and counts the bytes.
type recallingWriter struct {
	recall func()
	bytes  int
}

func (r *recallingWriter) Write(b []byte) (int, error) {
	if r.bytes == 0 {
		r.recall()
	}
	r.bytes += len(b)
	return len(b), nil
}

// TestPrintPackages_IdempotentAndRecall verifies that a repeated request before the first download creates no second package, and that a
// recall aborts a running download.
func TestPrintPackages_IdempotentAndRecall(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		batch := s.Apply("wxserviceacct0001", "order", 100_000)
		operator := require.Value(client.New(s.URL, client.Options{AdminToken: servertest.AdminToken}))(t)
		create := func(want int64, w client.PackageRequest) {
			t.Helper()
			p, err := operator.Packages.Create(t.Context(), batch, w)
			require.True(t, err == nil && p.ID == want, "Create = package %d, %v, want %d", p.ID, err, want)
		}
		request := client.PackageRequest{To: 99_999, Printer: "acme", Proofs: 5, Formats: []string{"lines"}}
		create(1, request)
		create(1, request)
		moreProofs := request
		moreProofs.Proofs = 6
		create(2, moreProofs)

		var complete bytes.Buffer
		const passphrase = "a long passphrase of words"
		require.NoError(t, operator.Packages.Download(t.Context(), 1, passphrase, &complete))
		create(3, request) // the first was downloaded
		download := &recallingWriter{recall: func() {
			assert.NoError(t, assert.ErrorOf(operator.Packages.Recall(t.Context(), 1, "lost", "eve")))
		}}
		if err := operator.Packages.Download(t.Context(), 1, passphrase, download); err == nil || download.bytes >= complete.Len() {
			t.Errorf("recalled while it was downloaded: %d of %d bytes came, %v", download.bytes, complete.Len(), err)
		}
		assert.Contains(t, s.Log(), "was recalled by eve while it was written", "the log")
	})
}
