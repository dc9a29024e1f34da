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

// What GET /readyz?for= may ask for. Without it both are asked.
const (
	forScan   = "scan"
	forChange = "change"
)

// ReadingImport begins the line of GET /readyz about a bulk import whose rules this node is still reading: it is ready meanwhile.
const ReadingImport = "reading import:"

// Unreadable begins the line of GET /readyz about changes that cannot be read although the database answers: it is ready all the
// same, since changes succeed, and every node would read the same.
const Unreadable = "unreadable:"

// ready answers GET /readyz: 200, or 503 and why not, in one line.
func (s health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	kind := r.URL.Query().Get("for")
	if r.URL.Query().Has("for") && kind != forScan && kind != forChange {
		http.Error(w, "for is scan or change, or is left out to ask for both", http.StatusBadRequest)
		return
	}
	if fault, err := s.fault(ctx, kind); fault != "" {
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
		text += fmt.Sprintf("%s %d committed changes, one of them of %.120s: %.200v; scans show what was before it\n", Unreadable, n, first, err)
	}
	io.WriteString(w, text+s.scans.missingScans(ctx))
}

// fault returns the reason for which the server is not ready for a kind of requests, or for both if that is ""; "" = it is ready.
// err is for the log.
func (s health) fault(ctx context.Context, kind string) (fault string, err error) {
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

// changeFault returns the reason for which no change can be committed here, or for which a scan after it might not see it.
func (s health) changeFault(ctx context.Context) (fault string, err error) {
	if err := s.store.Ping(ctx); err != nil {
		if out, ok := errors.AsType[*errcode.Unavailable](err); ok {
			return "the database " + out.What, err
		}
		return "the database does not answer", err
	}
	if err := s.domain.current.Ready(); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// scanFault returns the reason for which no scan can be answered from memory, or none recorded. A database that is away does not
// matter to it: scans of codes by a user, which need it, say so themselves.
func (s health) scanFault() (fault string, err error) {
	if !s.domain.current.Loaded() {
		return "rules are being loaded", nil
	}
	if err := s.scanning.ledger.room(s.config.Data); err != nil {
		return "the data folder has no room, or cannot be written", err
	}
	return "", nil
}

// room returns why scans cannot be written down: the disk of the data folder is
// full, or the last ones could not be written and nothing can now.
func (l *scanLedger) room(dir string) error {
	if free, known := scanlog.FreeSpace(dir); known && free < scanlog.MinFreeSpace {
		return fmt.Errorf("the disk of %s has %d bytes left: make room, at least %d", dir, free, scanlog.MinFreeSpace)
	}
	lost := l.recorder.Lost()
	if l.recorder.LastError() == nil || l.mended.Load() == lost {
		return nil
	}
	if err := scanlog.CheckFreeSpace(dir); err != nil {
		return fmt.Errorf("scans cannot be written down: %w", err)
	}
	l.mended.Store(lost)
	return nil
}
