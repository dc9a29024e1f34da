package main

import (
	"os"

	"github.com/qrjump/qrjump/internal/server"
)

type masterKeyRotate struct {
	Data       string `env:"QRJUMP_DATA" default:"./qrjump-data" placeholder:"DIR" file:"dir"`
	Database   string `env:"QRJUMP_DATABASE" placeholder:"URL"`
	NewKeyFile string `env:"QRJUMP_NEW_KEY_FILE" placeholder:"FILE" file:"in"`
}

// Run rotates the master key and prints the remaining steps.
func (c *masterKeyRotate) Run(s *session) error {
	done, err := server.KeyRotation{
		Config:     server.Config{Data: c.Data, Database: c.Database, MasterKey: os.Getenv("QRJUMP_MASTER_KEY")},
		NewKeyFile: c.NewKeyFile,
	}.Run(s.ctx)
	if err != nil {
		return err
	}
	if done.Finished {
		printMsg(s.out, "master_key.interrupted_rotation")
	} else {
		printMsg(s.out, "master_key.rotated", counted(done.Keys, "key"), counted(done.Secrets, "other secret"))
		if done.Snapshots > 0 {
			printMsg(s.out, "master_key.deleted_snapshots", counted(int(done.Snapshots), "snapshot"))
		}
	}
	switch {
	case done.File == "":
		printMsg(s.out, "master_key.put_the_key_in_into", c.NewKeyFile)
	case c.Database != "":
		printMsg(s.out, "master_key.new_key_for_nodes", done.File)
	default:
		printMsg(s.out, "master_key.new_key", done.File)
	}
	_, err = printMsg(s.out, "master_key.keep_old")
	return err
}
