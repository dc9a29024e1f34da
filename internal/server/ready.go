package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// readyTime is the timeout of GET /readyz.
const readyTime = 2 * time.Second

// The values of the query parameter "for" of GET /readyz, which name a kind of requests. With "for", GET /readyz checks only whether the
// server is ready for this kind; without "for", it checks both kinds.
const (
	forScan   = "scan"
	forChange = "change"
)

// ReadingImport is the beginning of a line of GET /readyz: this node, which is ready, is still reading the rules of a bulk import.
const ReadingImport = "reading import:"

// Unreadable is the beginning of a line of GET /readyz: this node cannot decode some committed changes, although the database responds. The
// node still counts as ready, because new changes succeed and all other nodes have the same problem.
const Unreadable = "unreadable:"

// ready serves GET /readyz: 200, or 503 with the reason in one line.
func (s health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	kind := r.URL.Query().Get("for")
	if r.URL.Query().Has("for") && kind != forScan && kind != forChange {
		http.Error(w, "for is scan or change, or is left out to ask for both", http.StatusBadRequest)
		return
	}
	if fault, err := s.unready(ctx, kind); fault != "" {
		if err != nil {
			s.log.ErrorContext(ctx, "not ready", "error", err)
		}
		http.Error(w, fault, http.StatusServiceUnavailable)
		return
	}
	text := "ready\n"
	if done, all := s.domain.current.Reading(); all > 0 {
		text += fmt.Sprintf("%s %s of %s\n", ReadingImport, i18n.Grouped(done), i18n.Grouped(all))
	}
	if n, first, err := s.domain.current.Unreadable(); n > 0 {
		text += fmt.Sprintf("%s %d committed changes, one of them of %.120s: %.200v; scans still show the state before\n", Unreadable, n,
			first, err)
	}
	io.WriteString(w, text+s.scans.missingScans(ctx))
}

// unready returns the reason why the server is not ready; "" = ready. If kind is "", unready checks both kinds of requests. The result err
// is the cause, for the log.
func (s health) unready(ctx context.Context, kind string) (unready string, err error) {
	if s.serving.draining.Load() {
		return "stopping", nil
	}
	if kind != forScan {
		if fault, err := s.changeFault(ctx); fault != "" {
			return fault, err
		}
	}
	if kind != forChange {
		return s.scanFault()
	}
	return "", nil
}

// changeFault returns the reason why this node cannot commit changes, or why scans on it might not see committed changes; "" = none.
func (s health) changeFault(ctx context.Context) (fault string, err error) {
	if err := s.store.Ping(ctx); err != nil {
		if out, ok := errors.AsType[*errcode.Unavailable](err); ok {
			return "the database " + out.Condition, err
		}
		return "the database does not respond", err
	}
	if err := s.domain.current.Ready(); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// scanFault returns the reason why scans cannot be resolved from memory or cannot be recorded; "" = none. scanFault ignores an unreachable
// database: the few scans that need the database return an error of their own.
func (s health) scanFault() (fault string, err error) {
	if !s.domain.current.Loaded() {
		return "rules are being loaded", nil
	}
	if err := s.scanning.scanLog.room(s.config.Data); err != nil {
		return "the data directory is full or not writable", err
	}
	return "", nil
}

// room returns an error if scans cannot be recorded: the disk of the data folder is full, or recent writes failed and a test write
// fails too.
func (l *scanLog) room(dir string) error {
	if free, known := scanlog.FreeSpace(dir); known && free < scanlog.MinFreeSpace {
		return fmt.Errorf("the disk of %s has %d bytes free: free at least %d", dir, free, scanlog.MinFreeSpace)
	}
	lost := l.recorder.Lost()
	if l.recorder.LastError() == nil || l.mended.Load() == lost {
		return nil
	}
	if err := scanlog.CheckFreeSpace(dir); err != nil {
		return fmt.Errorf("scans cannot be recorded: %w", err)
	}
	l.mended.Store(lost)
	return nil
}
