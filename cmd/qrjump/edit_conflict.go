package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

// overtaken is the error for a rejected change of an object that changed after this command read it.
type overtaken struct {
	*client.Problem
	text string
}

func (o overtaken) Error() string { return o.text }
func (o overtaken) Unwrap() error { return o.Problem }

// unlessOvertaken returns an error unchanged, unless the object changed meanwhile: the returned error then names the author of that
// change, says that nothing was changed, and shows the command that prints the current state.
func unlessOvertaken(see string, err error) error {
	p := client.ChangedMeanwhile(err)
	if p == nil {
		return err
	}
	text := said("overtaken.another_changed")
	if p.Current == nil {
		text = said("overtaken.another_deleted")
	}
	if len(p.Changes) > 0 {
		last := p.Changes[0]
		did := said("overtaken.changed", strings.Join(last.Fields, ", "))
		switch {
		case last.Action == "delete":
			did = said("overtaken.deleted_it")
		case last.Action == "add":
			did = said("overtaken.made_it")
		case len(last.Fields) == 0:
			did = said("overtaken.changed_it")
		}
		text = said("overtaken.actor", last.Actor, did, formatTime(last.OccurredAt))
	}
	return hintError{error: overtaken{p, text + said("overtaken.after_this_command_had_read")},
		next: said("overtaken.see_what_it_is_now") + see + said("overtaken.then_run_the_command_again")}
}
