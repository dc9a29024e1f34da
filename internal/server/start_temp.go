package server

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// StartTemp starts a server from a seed in a temporary folder, on a free port of the loopback address. The server has the emulator, needs
// no operator credentials, and sends no outbound requests. The function in the parameter "now" replaces the real time. The result end is a
// function that stops the server and deletes the folder.
func StartTemp(ctx context.Context, seed []byte, now func() time.Time, logs io.Writer) (s *Server, end func() error, err error) {
	dir, err := os.MkdirTemp("", "qrjump-rehearsal-")
	if err != nil {
		return nil, nil, err
	}
	c := Default()
	c.Data, c.Listen, c.Dev, c.Seed = filepath.Join(dir, "data"), "127.0.0.1:0", true, filepath.Join(dir, "seed.yaml")
	if err = os.WriteFile(c.Seed, seed, 0o600); err == nil {
		s, err = Start(ctx, c, logs, TestHooks{RealNow: now, Outbound: silent()})
	}
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, func() error { return errors.Join(s.Close(), os.RemoveAll(dir)) }, nil
}
