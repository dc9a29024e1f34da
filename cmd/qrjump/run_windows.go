package main

import (
	"os"
	"syscall"
)

// handedOn lists the signals that qrjump run forwards to the program.
var handedOn = []os.Signal{os.Interrupt, syscall.SIGTERM}

// lives reports whether a process is running.
func lives(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release()
	}
	return err == nil
}
