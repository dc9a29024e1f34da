package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestStream_ReplacesUnwritable removes the folder of a stream. A server may do so after the deletion of a stream if another stream with
// the same name exists already, which rejects messages until the server restarts. Such a stream must be replaced if it never stored a
// message, and kept otherwise.
func TestStream_ReplacesUnwritable(t *testing.T) {
	t.Parallel()
	for stored, isKept := range map[int64]bool{0: false, 10: true} {
		t.Run(fmt.Sprint(stored), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server, dialer := natstest.Start(t, natstest.Options{Dir: dir}), &serverDialer{}
			dialer.setServer(server)
			o := newOptions(t, server.Events())
			o.Patience, o.dialer = time.Second, dialer
			l := openLog(t, o)
			for l.Append(t.Context(), events(0, stored)) != nil {
				t.Log("the server is slow")
			}
			id, connected := l.ID(), l.conn.StatusChanged(nats.CONNECTED)
			server.End() // a restarted server opens the files of the stream only for a write
			dialer.setServer(natstest.Start(t, natstest.Options{Dir: dir}))
			<-connected
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "QRJUMP_SCANS")))
			require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "Append() to a stream without a folder succeeds, want an error")
			if isKept {
				require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "second Append() without a folder succeeds, want an error")
				assert.Equal(t, l.ID(), id, "ID of the stream")
				return
			}
			for err := l.Append(t.Context(), events(10, 30)); err != nil; err = l.Append(t.Context(), events(10, 30)) {
				t.Log(err)
			}
			assert.True(t, l.ID() != id, "ID of the stream = %s, want another after its replacement", id)
			seen := map[scanlog.ScanID]bool{}
			for _, e := range require.All(t, l.Read(t.Context(), 0)) {
				seen[e.ID] = true
			}
			assert.Equal(t, len(seen), 20, "different scans in the stream")
		})
	}
}
