package main

import (
	"io"
	"runtime"

	"github.com/qrjump/qrjump/internal/infra/version"
)

type versionCommand struct{ outputFlags }

// Run prints what the build knows of itself.
func (c versionCommand) Run(s *session) error {
	about := struct {
		version.Info
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version.Get(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return c.print(s, about, func(w io.Writer) {
		commit := ""
		if about.Commit != "" {
			commit = " (" + about.Commit[:min(12, len(about.Commit))] + " of " + about.Date + ")"
		}
		tell(w, "version.qrjump", about.Version, commit, about.Go, about.Platform)
	})
}
