package scanlog

import (
	"context"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newBubbleRecorder returns a recorder for a synctest bubble, with an in-memory disk.
func newBubbleRecorder(t *testing.T) (*Recorder, *brokenDisk) {
	d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
	j := require.Value(OpenJournal("scans", JournalOptions{disk: d, Random: newRandom(1)}))(t)
	return NewRecorder(j, RecorderOptions{}), d
}

func enqueue(t *testing.T, r *Recorder, n int64) *Group {
	t.Helper()
	e := newEvent(n)
	return require.Value(r.Enqueue(&e))(t)
}

// TestJournal_GroupCommitDelay verifies that a commit waits for further scans only if the previous commits had several scans, and that a
// scan without a waiting caller may wait longer.
func TestJournal_GroupCommitDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newBubbleRecorder(t)
		defer r.Close()
		waitAll := func(groups ...*Group) time.Duration {
			t.Helper()
			began := time.Now()
			for _, g := range groups {
				require.NoError(t, g.Wait(t.Context()))
			}
			return time.Since(began)
		}
		assert.Equal(t, waitAll(enqueue(t, r, 1)), 0, "delay of the first scan")
		assert.Equal(t, waitAll(enqueue(t, r, 2), enqueue(t, r, 3), enqueue(t, r, 4)), 0, "delay of three concurrent scans")
		began := time.Now()
		g := enqueue(t, r, 5) // the recorder expects three scans
		var delay time.Duration
		require.True(t, g.OnDurable(func(error) { delay = time.Since(began) }), "OnDurable() = false, want a pending group")
		time.Sleep(gather / 2)
		synctest.Wait()
		assert.Equal(t, r.Recorded(), 4, "recorded scans while further scans are expected")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, delay, gather, "delay while the expected scans do not arrive")
		assert.Equal(t, waitAll(enqueue(t, r, 6)), 0, "delay of the next scan, when one is expected")
		enqueue(t, r, 7)
		time.Sleep(unhurried - 1)
		synctest.Wait()
		assert.Equal(t, r.Recorded(), 6, "recorded scans before the delay of a scan without a waiting caller")
		g = enqueue(t, r, 8)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, r.Recorded() == 8 && r.Waiting() == 0 && !g.OnDurable(func(error) {}),
			"%d recorded, %d waiting scans, want 8 and 0 in a durable group", r.Recorded(), r.Waiting())
		enqueue(t, r, 9)
		time.Sleep(time.Millisecond)
		g = enqueue(t, r, 10)
		assert.Equal(t, waitAll(g), 0, "delay of a waiting caller after a scan without one")
	})
}

// TestRecorder_Sync verifies that Sync waits for the open group and for the group that is being written.
func TestRecorder_Sync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newBubbleRecorder(t)
		defer r.Close()
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		assert.NoErrorf(t, r.Sync(canceled), "Sync() without events")
		enqueue(t, r, 1)
		assert.ErrorIs(t, r.Sync(canceled), context.Canceled, "Sync() with an open group")
		require.NoError(t, r.Sync(t.Context()))
		assert.Equal(t, r.Recorded(), 1, "recorded events after Sync()")
		d.mu.Lock() // the group is written, and the disk does not respond
		enqueue(t, r, 2).Done()
		for isOpen := true; isOpen; {
			runtime.Gosched()
			r.mu.Lock()
			isOpen = r.open != nil
			r.mu.Unlock()
		}
		assert.ErrorIs(t, r.Sync(canceled), context.Canceled, "Sync() while a group is being written")
		d.mu.Unlock()
		require.NoError(t, r.Sync(t.Context()))
		assert.Equal(t, r.Recorded(), 2, "recorded events after another Sync()")
	})
}

// TestJournal_ThenCallbacks verifies that each callback of OnDurable is called once, also after a failure.
func TestJournal_ThenCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newBubbleRecorder(t)
		defer r.Close()
		require.NoError(t, enqueue(t, r, 0).Wait(t.Context()))
		for round, want := range []error{nil, syscall.EIO, nil} {
			const n = 3*share + 1
			results := make(chan error, 2*n)
			// No group ends while the disk is locked. There may be two groups, so the failure lasts as long as the round.
			d.mu.Lock()
			d.failAt = 0
			if want != nil {
				d.failAt, d.failFor, d.with = d.ops+2, 1<<30, want
			}
			for i := range int64(n) {
				require.True(t, enqueue(t, r, i).OnDurable(func(err error) { results <- err }), "OnDurable() = false, want a pending group")
			}
			d.mu.Unlock()
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, len(results), n, "number of callbacks in round %d", round)
			for range n {
				require.ErrorIs(t, <-results, want, "result in round %d", round)
			}
		}
	})
}
