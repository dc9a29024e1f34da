package scanlog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Restoring is a journal that is being restored from an archive. Every event keeps its original position. At the end of the
// restore, the complete journal is renamed into place.
type Restoring struct {
	dir     string
	journal *Journal
	batch   batch
	at      int64 // position after the last event
}

// ErrNotEmpty is returned if a journal with events already exists at the target.
var ErrNotEmpty = errors.New("the folder already has scans")

// restoreSuffix marks the folder of a journal that is being restored.
const restoreSuffix = ".import"

// RestoreJournal begins to restore a journal into a folder that contains no events; otherwise it returns ErrNotEmpty. ledger is the
// journal's id; "" = a new id.
func RestoreJournal(dir, ledger string, o JournalOptions) (*Restoring, error) {
	if err := emptied(dir, false); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir + restoreSuffix); err != nil {
		return nil, fmt.Errorf("removing the files of an interrupted import: %w", err)
	}
	if ledger != "" {
		if id, err := hex.DecodeString(ledger); err != nil || len(id) != 16 {
			return nil, fmt.Errorf("%q is not a valid scan log ID", ledger)
		}
		if err := os.MkdirAll(dir+restoreSuffix, 0o700); err != nil {
			return nil, fmt.Errorf("creating the journal folder: %w", err)
		}
		if err := writeWhole(realDisk{}, filepath.Join(dir+restoreSuffix, ledgerFile), []byte(ledger+"\n")); err != nil {
			return nil, fmt.Errorf("storing the scan log ID: %w", err)
		}
	}
	j, err := OpenJournal(dir+restoreSuffix, o)
	if err != nil {
		return nil, err
	}
	r := &Restoring{dir: dir, journal: j, at: 1}
	r.batch.reset()
	return r, nil
}

// RestoreInto returns a function that takes a journal id and calls RestoreJournal for dir and this id.
func RestoreInto(dir string, random io.Reader) func(id string) (*Restoring, error) {
	return func(id string) (*Restoring, error) { return RestoreJournal(dir, id, JournalOptions{Random: random}) }
}

// emptied returns an error if a folder of scans contains events. If remove is true, emptied also removes the folder.
func emptied(dir string, remove bool) error {
	names, err := realDisk{}.list(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspecting the journal folder: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Size() > headerSize+summarySize {
				return fmt.Errorf("%w in %s: name another data directory, or move it away", ErrNotEmpty, dir)
			}
		}
	}
	if !remove {
		return nil
	}
	for _, name := range names {
		isOurs := strings.HasSuffix(name, segmentSuffix) || strings.HasSuffix(name, usersSuffix)
		if isOurs || name == ledgerFile || name == keptFile || name == nodeFile {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("removing an empty journal: %w", err)
			}
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("removing the folder of an empty journal: %w", err)
	}
	return nil
}

// Add appends an event, whose position must be greater than all earlier positions.
func (r *Restoring) Add(e Entry) error {
	if e.Position < r.at {
		return fmt.Errorf("offset %d follows offset %d", e.Position, r.at-1)
	}
	if r.batch.n > 0 && (e.Position > r.at || len(r.batch.buf) > 1<<20) {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if r.batch.n == 0 {
		r.batch.skip = e.Position - r.at
	}
	r.batch.add(&e.Event)
	r.at = e.Position + 1
	return nil
}

func (r *Restoring) flush() error {
	if r.batch.n == 0 {
		return nil
	}
	err := r.journal.write(&r.batch)
	r.batch.reset()
	return err
}

// Finish moves the restored journal into place. The next event after the restore gets a position greater than end.
func (r *Restoring) Finish(end int64) error {
	if err := r.flush(); err != nil {
		return err
	}
	j := r.journal
	if _, err := j.renew(); err != nil {
		return err
	}
	if next := end + 1; next > r.at {
		j.mu.Lock()
		j.skip, j.next = next-r.at, next
		j.mu.Unlock()
		j.active.Close()
		if err := j.start(); err != nil {
			return err
		}
	}
	if err := j.Close(); err != nil {
		return err
	}
	if err := emptied(r.dir, true); err != nil {
		return err
	}
	if err := os.Rename(r.dir+restoreSuffix, r.dir); err != nil {
		return fmt.Errorf("moving the restored journal into place: %w", err)
	}
	return realDisk{}.syncDir(filepath.Dir(r.dir))
}

// Cancel removes the partly restored journal.
func (r *Restoring) Cancel() {
	r.journal.Close()
	os.RemoveAll(r.dir + restoreSuffix)
}
