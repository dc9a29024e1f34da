package stream

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestStream_ReplacesUnwritable removes the folder of a stream. A server may do so after the deletion of a stream if another stream with
// the same name exists already, which rejects messages until the server restarts. Such a stream must be replaced if it never stored a
// message, and kept otherwise. A stream that looks empty to this node is kept if a scan of the stream was counted or acknowledged.
func TestStream_ReplacesUnwritable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		former, stored, counted, acknowledged int64
		isKept                                bool
	}{
		"empty":                       {},
		"empty, after another stream": {former: 5, counted: 5},
		"with messages":               {stored: 10, isKept: true},
		"empty, with a counted scan":  {counted: 5, isKept: true},
		"empty, with a shipped scan":  {acknowledged: 5, isKept: true},
		"empty after all were purged": {stored: 10, counted: -1, isKept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server, dialer := natstest.Start(t, natstest.Options{Dir: dir}), &serverDialer{}
			dialer.setServer(server)
			o, counted := newOptions(t, server.URL()), c.former
			o.Patience, o.dialer = 2*time.Second, dialer
			o.Counted = func(context.Context) (int64, error) { return counted, nil }
			l := openLog(t, o)
			for err := l.Append(t.Context(), events(0, c.stored)); err != nil; err = l.Append(t.Context(), events(0, c.stored)) {
				t.Log(err) // the server is slow
			}
			if counted = c.counted; counted < 0 {
				counted = 0
				require.NoError(t, l.Forget(t.Context(), time.Now().Add(time.Hour)))
			}
			if c.acknowledged > 0 {
				last := brought{sequence: uint64(c.acknowledged)}
				require.NoError(t, l.write(shippedTo{last: last, stream: l.ID(), address: l.address()}))
			}
			id, connected := l.ID(), l.conn.StatusChanged(nats.CONNECTED)
			server.Stop() // a restarted server opens the files of the stream only for a write
			server = natstest.Start(t, natstest.Options{Dir: dir})
			dialer.setServer(server)
			<-connected
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "QRJUMP_SCANS")))
			require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "Append() to a stream without a folder succeeds, want an error")
			if c.isKept {
				require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "second Append() without a folder succeeds, want an error")
				stream := require.Value(connectJetStream(t, server).Stream(t.Context(), "QRJUMP_SCANS"))(t)
				assert.Equal(t, l.named(createdAt(stream.CachedInfo())), id, "ID of the stream")
				return
			}
			for err := l.Append(t.Context(), events(10, 30)); err != nil; err = l.Append(t.Context(), events(10, 30)) {
				t.Log(err)
			}
			assert.True(t, l.ID() != id, "ID of the stream = %s, want another after its replacement", id)
			assert.Equal(t, len(scanIDs(require.All(t, l.Read(t.Context(), 0)))), 20, "different scans in the stream")
		})
	}
}
