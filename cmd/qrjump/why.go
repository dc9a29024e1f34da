package main

import (
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
)

type whyCommand struct {
	operator
	RID string `arg:"" placeholder:"RID"`
}

// Run says why a call was answered so, and how sure that is.
func (c *whyCommand) Run(s *session, qrjump *client.Client) error {
	call, err := qrjump.Call(s.ctx, c.RID)
	if err != nil {
		return fmt.Errorf("why %s: %w", c.RID, err)
	}
	return c.print(s, call, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s of %s\n", when(call.At), plain(call.Endpoint), plain(orDash(call.Account)))
		if call.Request != "" {
			fmt.Fprintf(w, "sent:      %s\n", plain(call.Request))
		}
		fmt.Fprintf(w, "answered:  %s\n", plain(call.Answer))
		if call.Detail != "" {
			fmt.Fprintf(w, "because:   %s\n", plain(call.Detail))
		}
		for _, row := range call.Rows {
			fmt.Fprintf(w, "behaviour: %s (%s)\n           %s\n", plain(row.ID), sureness(row),
				plain(s.inLanguage(row.English, row.Chinese)))
		}
		for _, id := range call.Deviations {
			fmt.Fprintf(w, "deviation: %s; qrjump deviations says what to change\n", plain(id))
		}
	})
}

// sureness says how a behaviour is known.
func sureness(b client.Behaviour) string {
	said := map[string]string{"seen": "seen in a live answer", "page": "a page of the platform says so",
		"inferred": "inferred: no source says it", "choice": "a choice of qrjump: the platform may differ"}[b.Mark]
	if said == "" {
		said = b.Mark
	}
	if b.Date != "" {
		said += ", " + b.Date
	}
	if b.Old {
		said += ", older than three years"
	}
	return said
}
