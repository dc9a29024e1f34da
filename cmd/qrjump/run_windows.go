package main

import (
	"os"
	"syscall"
)

// forwardedSignals lists the signals that qrjump run forwards to the program.
var forwardedSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// isProcessRunning reports whether a process is running.
func isProcessRunning(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release()
	}
	return err == nil
}
