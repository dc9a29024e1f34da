package main

import (
	"os"
	"syscall"
)

// handedOn are the signals that the program of qrjump run gets.
var handedOn = []os.Signal{os.Interrupt, syscall.SIGTERM}
