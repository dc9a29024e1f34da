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

// A server may remove the folder of a deleted stream when another of the same name is there already: the new one takes no message until the
// server starts again. It is replaced if it never stored a message, and stays otherwise.
func TestStream_ReplacesUnwritable(t *testing.T) {
	t.Parallel()
	for stored, stays := range map[int64]bool{0: false, 10: true} {
		t.Run(fmt.Sprint(stored), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server, m := natstest.Start(t, natstest.Options{Dir: dir}), &mooring{}
			m.lead(server)
			o, err := Parse(server.Events())
			require.NoError(t, err)
			o.Marks, o.Patience, o.dialer = t.TempDir(), time.Second, m
			l, err := Open(o)
			require.NoError(t, err)
			defer l.Close()
			for l.Append(t.Context(), events(0, stored)) != nil {
				t.Log("the server is slow")
			}
			made, connected := l.ID(), l.conn.StatusChanged(nats.CONNECTED)
			server.End() // the server opens the files of the stream again only when it writes to them
			m.lead(natstest.Start(t, natstest.Options{Dir: dir}))
			<-connected
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "QRJUMP_SCANS")))
			require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "a stream without a folder took messages")
			if stays {
				require.True(t, l.Append(t.Context(), events(10, 30)) != nil, "a stream without a folder took messages")
				assert.Equal(t, l.ID(), made, "the stream")
				return
			}
			for err := l.Append(t.Context(), events(10, 30)); err != nil; err = l.Append(t.Context(), events(10, 30)) {
				t.Log(err)
			}
			assert.True(t, l.ID() != made, "the stream is still %s", made)
			seen := map[scanlog.ScanID]bool{}
			for _, e := range require.All(t, l.Read(t.Context(), 0)) {
				seen[e.ID] = true
			}
			assert.Equal(t, len(seen), 20, "different scans in the stream")
		})
	}
}
