package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

// overtaken is the error of a change of something that somebody else changed since this
// command read it.
type overtaken struct {
	*client.Problem
	text string
}

func (o overtaken) Error() string { return o.text }
func (o overtaken) Unwrap() error { return o.Problem }

// unlessOvertaken is an error as it came, but says of a change that somebody else overtook
// who that was, that nothing was changed, and which command shows the thing as it is now.
func unlessOvertaken(see string, err error) error {
	p := client.ChangedMeanwhile(err)
	if p == nil {
		return err
	}
	who := "somebody else changed it"
	if p.Current == nil {
		who = "somebody else deleted it"
	}
	if len(p.Changes) > 0 {
		last := p.Changes[0]
		did := "changed " + strings.Join(last.What, ", ")
		switch {
		case last.Did == "delete":
			did = "deleted it"
		case last.Did == "add":
			did = "made it"
		case len(last.What) == 0:
			did = "changed it"
		}
		who = last.Actor + " " + did + " at " + when(last.At)
	}
	return advised{error: overtaken{p, who + " after this command had read it; nothing was changed"},
		next: "see what it is now (" + see + "), then run the command again"}
}
