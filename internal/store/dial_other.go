//go:build !linux

package store

import "syscall"

// untaken is implemented on Linux only: other systems use their own timeouts.
func untaken(string, string, syscall.RawConn) error { return nil }
