package main

import (
	"io"

	"github.com/qrjump/qrjump/client"
)

// maxSeedSize is the maximum size in bytes of a seed file that the command sends to a running server.
const maxSeedSize = 1 << 20

type seedCommand struct {
	operator
	File string `arg:"" file:"in,self"`
}

// Run applies a seed file to a running emulator.
func (c *seedCommand) Run(s *session, qrjump *client.Client) error {
	in, err := s.openInput(c.File)
	if err != nil {
		return usageError(err.Error())
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxSeedSize+1))
	if err != nil {
		return usageError(err.Error())
	}
	if len(text) > maxSeedSize {
		return misused("seed.is_above_1_mib_start", c.File)
	}
	done, err := qrjump.Emulator.Seed(s.ctx, string(text))
	return c.print(s, done, emulated(tr("seed.apply_the_seed")+plain(c.File), err), func(w io.Writer) {
		if !done.Applied {
			printMsg(w, "seed.nothing_was_done_this_very")
			return
		}
		printMsg(w, "seed.the_seed_is_applied", counted(done.Accounts, "account"), counted(done.Components, "platform"),
			counted(done.Rules, "rule"))
	})
}
