package main

import (
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
)

type lakeVerify struct {
	operator
	From string `placeholder:"DAY"`
	To   string `placeholder:"DAY"`
}

// Run compares the lake with the ledger.
func (c *lakeVerify) Run(s *session, qrjump *client.Client) error {
	v, err := qrjump.VerifyLake(s.ctx, c.From, c.To)
	if err != nil {
		return fmt.Errorf("verify the lake: %w", err)
	}
	wrong := 0
	for _, d := range v.Days {
		if !d.Right() {
			wrong++
		}
	}
	err = c.print(s, v, func(w io.Writer) { showLake(w, v) })
	if err == nil && wrong > 0 {
		return different("lake verify: of %s the lake does not have what the ledger has", counted(wrong, "day"))
	}
	return err
}

func showLake(w io.Writer, v client.LakeVerification) {
	rows := [][]string{}
	for _, d := range v.Days {
		state := "as it should be"
		if !d.Right() {
			state = fmt.Sprintf("%d missing, %d twice, %d not in the ledger, %d name an erased user", d.Missing, d.Twice, d.Unknown,
				d.Named)
		}
		if d.OnTheWay > 0 {
			state += fmt.Sprintf(", %d on the way", d.OnTheWay)
		}
		rows = append(rows, []string{d.Date, number(d.Ledger), number(d.Lake), state})
	}
	printTable(w, []string{"DAY", "LEDGER", "LAKE", "THE LAKE IS"}, rows)
	for _, n := range v.Nodes {
		fmt.Fprintf(w, "node %s has written all of before %s\n", plain(n.Node), when(n.CompleteUntil))
	}
}
