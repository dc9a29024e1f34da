//go:build !windows

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// handedOn are the signals that the program of qrjump run gets.
var handedOn = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// lives reports whether a process runs. On Linux one that ended, and that its parent has not asked for yet, does not.
func lives(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name of the program stands in brackets before the state, and may hold brackets itself.
	return err != nil || !bytes.HasPrefix(text[bytes.LastIndexByte(text, ')')+1:], []byte(" Z"))
}
