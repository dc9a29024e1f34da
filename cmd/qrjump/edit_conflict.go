package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

// conflictError is the error for a rejected change of an object that changed after this command read it.
type conflictError struct {
	*client.Problem
	text string
}

func (o conflictError) Error() string { return o.text }
func (o conflictError) Unwrap() error { return o.Problem }

// If an error means that the object changed after this command had read it, describeConflict adds to the error the author of that change
// and the command in see, which prints the current state. Any other error is returned unchanged.
func describeConflict(see string, err error) error {
	p := client.ChangedMeanwhile(err)
	if p == nil {
		return err
	}
	text := tr("overtaken.another_changed")
	if p.Current == nil {
		text = tr("overtaken.another_deleted")
	}
	if len(p.Changes) > 0 {
		last := p.Changes[0]
		did := tr("overtaken.changed", strings.Join(last.Fields, ", "))
		switch {
		case last.Action == "delete":
			did = tr("overtaken.deleted_it")
		case last.Action == "add":
			did = tr("overtaken.made_it")
		case len(last.Fields) == 0:
			did = tr("overtaken.changed_it")
		}
		text = tr("overtaken.actor", last.Actor, did, formatTime(last.OccurredAt))
	}
	return hintError{error: conflictError{p, text + tr("overtaken.after_this_command_had_read")},
		next: tr("overtaken.see_what_it_is_now") + see + tr("overtaken.then_run_the_command_again")}
}
