package main

import (
	_ "embed"
	"io"
	"runtime"

	"github.com/qrjump/qrjump/internal/infra/version"
)

// licences holds the licence texts of all code in the program. To update the file, run TestLicences_CoverEveryModule with -update.
//
//go:embed licences.txt
var licences string

type versionCommand struct {
	outputFlags
	Licences bool
}

// Run prints the version and build information.
func (c versionCommand) Run(s *session) error {
	if c.Licences {
		_, err := io.WriteString(s.out, licences)
		return err
	}
	entry := struct {
		version.Info
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version.Get(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return c.print(s, entry, nil, func(w io.Writer) {
		commit := textIf(entry.Commit != "", " ("+entry.Commit[:min(12, len(entry.Commit))]+" of "+entry.Date+")")
		printMsg(w, "version.qrjump", entry.Version, commit, entry.Go, entry.Platform)
	})
}
