package server_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// recalling recalls a package when its first bytes come, and counts them all.
type recalling struct {
	recall func()
	bytes  int
}

func (r *recalling) Write(b []byte) (int, error) {
	if r.bytes == 0 {
		r.recall()
	}
	r.bytes += len(b)
	return len(b), nil
}

// A package whose response was lost is not created twice, and the download of a package that is recalled meanwhile does not complete.
func TestPrintPackages_IdempotentAndRecall(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, url string) {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		batch := s.Apply("wxserviceacct0001", "order", 100_000)
		operator, err := client.New(s.URL, client.Options{AdminToken: servertest.AdminToken})
		require.NoError(t, err)
		make := func(want int64, w client.PackageRequest) {
			t.Helper()
			p, err := operator.Packages.Create(t.Context(), batch, w)
			require.True(t, err == nil && p.ID == want, "package %d, %v, not %d", p.ID, err, want)
		}
		wish := client.PackageRequest{To: 99_999, Printer: "acme", Proofs: 5, Formats: []string{"lines"}}
		make(1, wish)
		make(1, wish)
		more := wish
		more.Proofs = 6
		make(2, more)

		var whole bytes.Buffer
		const word = "a long passphrase of words"
		require.NoError(t, operator.Packages.Download(t.Context(), 1, word, &whole))
		make(3, wish) // the first was sent
		download := &recalling{recall: func() {
			assert.NoError(t, assert.ErrorOf(operator.Packages.Recall(t.Context(), 1, "lost", "eve")))
		}}
		if err := operator.Packages.Download(t.Context(), 1, word, download); err == nil || download.bytes >= whole.Len() {
			t.Errorf("recalled while it was downloaded: %d of %d bytes came, %v", download.bytes, whole.Len(), err)
		}
		assert.True(t, strings.Contains(s.Log(), "was recalled by eve while it was written"), "the log does not say why the download ended")
	})
}
