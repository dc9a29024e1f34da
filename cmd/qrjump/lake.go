package main

import (
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
	v, err := qrjump.Lake.Verify(s.ctx, c.From, c.To)
	if err != nil {
		return fault("lake.verify_the_lake", err)
	}
	wrong := 0
	for _, d := range v.Days {
		if !d.Right() {
			wrong++
		}
	}
	err = c.print(s, v, func(w io.Writer) { showLake(w, v) })
	if err == nil && wrong > 0 {
		return different("lake.lake_verify_of_the_lake", counted(wrong, "day"))
	}
	return err
}

func showLake(w io.Writer, v client.LakeVerification) {
	rows := [][]string{}
	for _, d := range v.Days {
		state := said("lake.as_it_should_be")
		if !d.Right() {
			state = said("lake.missing_twice_not_in_the", d.Missing, d.Twice, d.Unknown,
				d.Named)
		}
		if d.OnTheWay > 0 {
			state += said("lake.on_the_way", d.OnTheWay)
		}
		rows = append(rows, []string{d.Date, number(d.Ledger), number(d.Lake), state})
	}
	printTable(w, []string{"DAY", "LEDGER", "LAKE", "THE LAKE IS"}, rows)
	for _, n := range v.Nodes {
		tell(w, "lake.node_has_written_all_of", plain(n.Node), when(n.CompleteUntil))
	}
}
