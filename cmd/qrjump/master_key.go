package main

import (
	"fmt"
	"os"

	"github.com/qrjump/qrjump/internal/server"
)

type masterKeyTurn struct {
	Data       string `env:"QRJUMP_DATA" default:"./qrjump-data" placeholder:"DIR"`
	Database   string `env:"QRJUMP_DATABASE" placeholder:"URL"`
	NewKeyFile string `env:"QRJUMP_NEW_KEY_FILE" placeholder:"FILE" file:"in"`
}

// Run turns the master key and says what is left to do.
func (c *masterKeyTurn) Run(s *session) error {
	done, err := server.Turn{
		Config:     server.Config{Data: c.Data, Database: c.Database, MasterKey: os.Getenv("QRJUMP_MASTER_KEY")},
		NewKeyFile: c.NewKeyFile,
	}.Run(s.ctx)
	if err != nil {
		return err
	}
	if done.Finished {
		fmt.Fprintln(s.out, "a turn of the master key was cut off after it had sealed everything anew; it is finished")
	} else {
		fmt.Fprintf(s.out, "the master key is turned: %s and %s are sealed anew\n", counted(done.Keys, "key"),
			counted(done.Secrets, "other secret"))
	}
	switch {
	case done.File == "":
		fmt.Fprintf(s.out, "put the key in %s into QRJUMP_MASTER_KEY before the next start\n", c.NewKeyFile)
	case c.Database != "":
		fmt.Fprintf(s.out, "the new one is %s; every other node on this database needs a copy of it before its next start\n", done.File)
	default:
		fmt.Fprintf(s.out, "the new one is %s\n", done.File)
	}
	_, err = fmt.Fprintln(s.out, "the old one opens nothing but copies of the data from before: keep it as long as you keep those")
	return err
}
