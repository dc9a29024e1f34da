package scanlog

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// bubbleRecorder is a recorder on a disk that takes no time.
func bubbleRecorder(t *testing.T) (*Recorder, *brokenDisk) {
	d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
	j, err := OpenJournal("scans", JournalOptions{disk: d, Random: seeded(1)})
	require.NoError(t, err)
	return NewRecorder(j, RecorderOptions{}), d
}

func enqueue(t *testing.T, r *Recorder, n int64) *Group {
	t.Helper()
	e := anEvent(n)
	g, err := r.Enqueue(&e)
	require.NoError(t, err)
	return g
}

// A commit waits shortly for further scans only if further scans are likely; a scan without a waiting caller may wait longer.
func TestJournal_GroupCommitDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := bubbleRecorder(t)
		defer r.Close()
		took := func(groups ...*Group) time.Duration {
			t.Helper()
			began := time.Now()
			for _, g := range groups {
				require.NoError(t, g.Wait(t.Context()))
			}
			return time.Since(began)
		}
		assert.Equal(t, took(enqueue(t, r, 1)), 0, "the first scan waits")
		assert.Equal(t, took(enqueue(t, r, 2), enqueue(t, r, 3), enqueue(t, r, 4)), 0, "three at once wait")
		began := time.Now()
		g := enqueue(t, r, 5) // three are expected
		var ended time.Duration
		require.True(t, g.OnDurable(func(error) { ended = time.Since(began) }), "it is durable already")
		time.Sleep(gather / 2)
		synctest.Wait()
		assert.Equal(t, r.Recorded(), 4, "it does not wait for those that are expected")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.True(t, ended == gather, "it waited %v for those that do not come", ended)
		d := took(enqueue(t, r, 6))
		assert.True(t, d == 0, "the next one waits %v, one was expected", d)
		enqueue(t, r, 7)
		time.Sleep(unhurried - 1)
		synctest.Wait()
		assert.Equal(t, r.Recorded(), 6, "a scan that nobody waits for is in a hurry")
		g = enqueue(t, r, 8)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, r.Recorded() == 8 && r.Waiting() == 0 && !g.OnDurable(func(error) {}), "%d recorded", r.Recorded())
		enqueue(t, r, 9)
		time.Sleep(time.Millisecond)
		g = enqueue(t, r, 10)
		assert.Equal(t, took(g), 0, "who comes to wait waits")
	})
}

// Each one that asked is told once, also of a failure.
func TestJournal_ThenCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := bubbleRecorder(t)
		defer r.Close()
		require.NoError(t, enqueue(t, r, 0).Wait(t.Context()))
		for round, want := range []error{nil, syscall.EIO, nil} {
			const n = 3*share + 1
			told := make(chan error, 2*n)
			// No group ends while the disk is held. They may be two, so the failure lasts as long as the round.
			d.mu.Lock()
			d.failAt = 0
			if want != nil {
				d.failAt, d.failFor, d.with = d.ops+2, 1<<30, want
			}
			for i := range int64(n) {
				require.True(t, enqueue(t, r, i).OnDurable(func(err error) { told <- err }), "it is durable already")
			}
			d.mu.Unlock()
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, len(told), n, "round %d", round)
			for range n {
				require.ErrorIs(t, (<-told), want, "round %d", round)
			}
		}
	})
}
