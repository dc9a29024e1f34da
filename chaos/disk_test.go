package chaos_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/qrjump/qrjump/chaos/faultfs"
)

// powerCut says when a child's power goes, and where to put what is left.
type powerCut struct {
	// Starting is the operation that fails while the server starts; 0 = none.
	Starting int
	// At is the operation that fails, counted from the signal SIGUSR1.
	At   int
	Seed uint64
	Into string
}

// putDiskUnder puts a disk under the embedded database of this process. When
// the power goes the process ends as by kill -9.
func putDiskUnder(data string, p powerCut) (*faultfs.Disk, error) {
	d := &faultfs.Disk{CutAt: p.Starting}
	d.Cut = func() {
		if err := d.Image(p.Into, rand.New(rand.NewPCG(p.Seed, 0))); err != nil {
			fmt.Fprintln(os.Stderr, "the image of the disk:", err)
		}
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	}
	for _, name := range sqliteFiles {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err == nil {
			d.Put(filepath.Join(data, name), text)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	armed := make(chan os.Signal, 1)
	signal.Notify(armed, syscall.SIGUSR1)
	go func() {
		<-armed
		d.CutIn(p.At)
	}()
	_, err := faultfs.RegisterModernc(d, true)
	return d, err
}

// untilReady is standard output, and ends what is planned for the start.
type untilReady struct{ disk *faultfs.Disk }

func (u untilReady) Write(p []byte) (int, error) {
	u.disk.CutIn(0)
	return os.Stdout.Write(p)
}

// sqliteFiles are the files of the embedded database that are on the disk.
var sqliteFiles = []string{"qrjump.db", "qrjump.db-wal", "qrjump.db-journal"}
