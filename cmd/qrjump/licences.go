package main

import (
	_ "embed"
	"io"
)

// licences are the texts of everybody whose code is in the program.
// TestLicencesOfAllThatIsInTheProgram writes them with -update.
//
//go:embed licences.txt
var licences string

type licencesCommand struct{}

// Run prints the licences.
func (licencesCommand) Run(s *session) error {
	_, err := io.WriteString(s.out, licences)
	return err
}
