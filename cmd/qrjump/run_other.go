//go:build !linux

package main

import (
	"errors"
	"os/exec"

	"github.com/qrjump/qrjump/internal/server"
)

// startLed starts cmd; with --isolate it returns an error, because only Linux has namespaces.
func (c *runCommand) startLed(cmd *exec.Cmd, _ *server.Server, _ string) error {
	if c.Isolate {
		return noNamespace{errors.ErrUnsupported}
	}
	return cmd.Start()
}
