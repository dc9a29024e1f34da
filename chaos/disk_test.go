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

// powerCut describes a power failure of a child process.
type powerCut struct {
	// Starting is the number of the operation that fails while the server starts; 0 = none.
	Starting int
	// At is the number of the operation that fails, counted from the signal SIGUSR1.
	At   int
	Seed uint64
	Into string // directory of the surviving files
}

// simulateDisk puts a faultfs.Disk under the SQLite database of this process. The power failure ends the process like kill -9.
func simulateDisk(data string, p powerCut) (*faultfs.Disk, error) {
	d := &faultfs.Disk{CutAt: p.Starting}
	d.Cut = func() {
		if err := d.Image(p.Into, rand.New(rand.NewPCG(p.Seed, 0))); err != nil {
			fmt.Fprintln(os.Stderr, "writing the disk image:", err)
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

// readyWriter writes to standard output and cancels the power failure that is planned for the start.
type readyWriter struct{ disk *faultfs.Disk }

func (w readyWriter) Write(p []byte) (int, error) {
	w.disk.CutIn(0)
	return os.Stdout.Write(p)
}

// sqliteFiles are the files of a SQLite database on the disk.
var sqliteFiles = []string{"qrjump.db", "qrjump.db-wal", "qrjump.db-journal"}
