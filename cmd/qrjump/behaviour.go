package main

import (
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type behaviourList struct {
	operator
	Evidence string `enum:",observed,documented,inferred,assumed" default:"" placeholder:"LEVEL"`
	Prefix   string `placeholder:"BEGINNING"`
	ID       string `arg:"" optional:"" name:"id"`
}

// Run lists the server's behaviours that might differ from the platform's, or shows a behaviour with its evidence.
func (c *behaviourList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Behaviours.List(s.ctx)
	err = failed("list", "behaviours", err)
	if c.ID != "" {
		return c.show(s, list, err)
	}
	list = slices.DeleteFunc(list, func(b client.Behaviour) bool {
		return c.Evidence != "" && b.EvidenceLevel != c.Evidence || !strings.HasPrefix(b.ID, c.Prefix)
	})
	return listing[client.Behaviour]{name: "behaviours", none: tr("behaviour.none"),
		heads: []string{"BEHAVIOUR", "EVIDENCE", "SINCE", "SERVER BEHAVIOUR"},
		row:   func(b client.Behaviour) []string { return []string{b.ID, b.EvidenceLevel, orDash(b.Date), b.English} },
	}.print(s, c.outputFlags, list, err)
}

// show shows a behaviour with its evidence.
func (c *behaviourList) show(s *session, list []client.Behaviour, err error) error {
	behaviour, err := named(list, err, func(b client.Behaviour) string { return b.ID }, "show", c.ID, "behaviour", "qrjump behaviour list")
	return c.print(s, behaviour, err, func(w io.Writer) {
		server := msg("behaviour.server")
		printFields(w, [2]string{"behaviour", behaviour.ID}, [2]string{server.English(), behaviour.English},
			[2]string{server.Chinese(), behaviour.Chinese},
			[2]string{"evidence level", evidenceText(behaviour)}, [2]string{"evidence", behaviour.Source}, [2]string{"contract",
				behaviour.Section})
	})
}
