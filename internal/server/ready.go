package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/ledger"
)

// readyTime is how long GET /readyz may look.
const readyTime = 2 * time.Second

// What GET /readyz?for= may ask for. Without it both are asked.
const (
	forScan   = "scan"
	forChange = "change"
)

// ready answers GET /readyz: 200, or 503 and why not, in one line.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	what := r.URL.Query().Get("for")
	if r.URL.Query().Has("for") && what != forScan && what != forChange {
		http.Error(w, "for is scan or change, or is left out to ask for both", http.StatusBadRequest)
		return
	}
	if fault := s.fault(ctx, what); fault != "" {
		http.Error(w, fault, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n"+s.lacking(ctx))
}

// fault is why the server is not ready for what is asked, or for both if that is ""; "" = it is.
func (s *Server) fault(ctx context.Context, what string) string {
	if s.draining.Load() {
		return "stopping"
	}
	if what != forScan {
		if fault := s.changeFault(ctx); fault != "" {
			return fault
		}
	}
	if what != forChange {
		return s.scanFault(ctx)
	}
	return ""
}

// changeFault is why no change can be committed here, or why a scan after it might not see it.
func (s *Server) changeFault(ctx context.Context) string {
	if err := s.store.Ping(ctx); err != nil {
		s.log.ErrorContext(ctx, "not ready", "error", err)
		if out, ok := errors.AsType[*errcode.Outage](err); ok {
			return "the database " + out.What
		}
		return "the database does not answer"
	}
	if err := s.current.Ready(); err != nil {
		return err.Error()
	}
	return ""
}

// scanFault is why no scan can be answered from memory, or none written down. A database that is away does not matter to it:
// scans of codes by a user, which need it, say so themselves.
func (s *Server) scanFault(ctx context.Context) string {
	if !s.current.Loaded() {
		return "rules are being loaded"
	}
	if err := s.ledger.room(s.config.Data); err != nil {
		s.log.ErrorContext(ctx, "not ready", "error", err)
		return "the data folder has no room, or cannot be written"
	}
	return ""
}

// room returns why scans cannot be written down: the disk of the data folder is
// full, or the last ones could not be written and nothing can now.
func (l *scanLedger) room(dir string) error {
	if free, known := ledger.Free(dir); known && free < ledger.LeastRoom {
		return fmt.Errorf("the disk of %s has %d bytes left: make room, at least %d", dir, free, ledger.LeastRoom)
	}
	lost := l.recorder.Lost()
	if l.recorder.LastError() == nil || l.mended.Load() == lost {
		return nil
	}
	if err := ledger.Room(dir); err != nil {
		return fmt.Errorf("scans cannot be written down: %w", err)
	}
	l.mended.Store(lost)
	return nil
}
