package main

import (
	"os"
	"syscall"
)

// handedOn are the signals that the program of qrjump run gets.
var handedOn = []os.Signal{os.Interrupt, syscall.SIGTERM}

// lives reports whether a process runs.
func lives(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release()
	}
	return err == nil
}
