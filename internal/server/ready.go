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

// ready answers GET /readyz: 200, or 503 and why not, in one line.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTime)
	defer cancel()
	if fault := s.fault(ctx); fault != "" {
		http.Error(w, fault, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n"+s.lacking(ctx))
}

// fault is why the server is not ready; "" = it is.
func (s *Server) fault(ctx context.Context) string {
	if s.draining.Load() {
		return "stopping"
	}
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
