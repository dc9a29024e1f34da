package main

import (
	_ "embed"
	"io"
	"runtime"

	"github.com/qrjump/qrjump/internal/infra/version"
)

// licences are the texts of all whose code is in the program. TestLicencesOfAllThatIsInTheProgram writes them with -update.
//
//go:embed licences.txt
var licences string

type versionCommand struct {
	outputFlags
	Licences bool
}

// Run prints what the build knows of itself.
func (c versionCommand) Run(s *session) error {
	if c.Licences {
		_, err := io.WriteString(s.out, licences)
		return err
	}
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
