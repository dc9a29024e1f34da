//go:build !linux

package store

import "syscall"

// untaken does nothing: only Linux has a socket option that limits the time for which sent bytes may stay unacknowledged.
func untaken(string, string, syscall.RawConn) error { return nil }
