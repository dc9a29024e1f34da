//go:build !linux

package store

import "syscall"

// untaken is for Linux alone: other systems give up by themselves, or not.
func untaken(string, string, syscall.RawConn) error { return nil }
