//go:build !linux

package store

import "syscall"

// limitUnacknowledged does nothing: only Linux has a socket option that limits the time for which sent bytes may stay unacknowledged.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
