//go:build !windows

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// forwardedSignals lists the signals that qrjump run forwards to the program.
var forwardedSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// isProcessRunning reports whether a process is running. On Linux, a zombie process does not count as running.
func isProcessRunning(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// In /proc/PID/stat, the state follows the program name in parentheses; the name itself may contain parentheses.
	return err != nil || !bytes.HasPrefix(text[bytes.LastIndexByte(text, ')')+1:], []byte(" Z"))
}
