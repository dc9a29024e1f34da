package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type auditVerify struct {
	operator
}

// errAltered ends the command with 1 after the report is printed.
var errAltered = errors.New("the audit log does not verify")

// Run verifies the audit log and says what does not fit.
func (c *auditVerify) Run(s *session, qrjump *client.Client) error {
	done, err := qrjump.VerifyAudit(s.ctx)
	if err != nil {
		return fmt.Errorf("verify the audit log: %w", err)
	}
	err = c.print(s, done, func(w io.Writer) {
		switch f := done.Fault; {
		case f != nil && f.Seq > 0:
			fmt.Fprintf(w, "change %d does not fit: %s\n", f.Seq, plain(f.What))
		case f != nil:
			fmt.Fprintf(w, "it does not fit: %s\n", plain(f.What))
		case done.Changes == 0:
			fmt.Fprintln(w, "the log is empty")
			return
		default:
			fmt.Fprintf(w, "%s verified, %d to %d: nothing was altered\n", counted(int(done.Changes), "change"), done.First, done.Seq)
		}
		fmt.Fprintf(w, "hash of change %d: %s\nkeep it elsewhere: it shows later that nothing before it was altered or taken away\n",
			done.Seq, done.Hash)
	})
	if err == nil && done.Fault != nil {
		err = errAltered
	}
	return err
}

type auditList struct {
	operator
	Kind  string `placeholder:"KIND"`
	Key   string `placeholder:"KEY"`
	Actor string `placeholder:"APPID"`
	Limit int    `default:"50" placeholder:"N"`
}

// Run lists the latest changes, oldest first.
func (c *auditList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Changes(s.ctx, client.ChangesQuery{Newest: true, Kind: c.Kind, Key: c.Key, Actor: c.Actor, Limit: c.Limit})
	return listing[client.Change]{name: "changes", none: "no change is like that", newestFirst: true,
		heads: []string{"SEQ", "AT", "KIND", "DID", "WHICH", "BY", "RID"},
		row: func(e client.Change) []string {
			by := e.Actor
			if e.Via != "" {
				by += " via " + e.Via
			}
			return []string{number(e.Seq), when(e.At), e.Kind, e.Did, plain(e.Key), by, orDash(e.RID)}
		}}.print(s, c.outputFlags, list, failed("list", "changes", err))
}

type ruleUndo struct {
	operator
	Seq int64 `arg:""`
}

// Run undoes a change of a rule.
func (c *ruleUndo) Run(s *session, qrjump *client.Client) error {
	done, err := qrjump.UndoRuleChange(s.ctx, c.Seq)
	if err != nil {
		return failed("undo change", number(c.Seq), err)
	}
	return c.print(s, done, func(w io.Writer) {
		what := map[string]string{"add": "is back", "delete": "is gone again", "edit": "is as it was before"}[done.Did]
		fmt.Fprintf(w, "change %d is undone: %s %s (change %d)\n", c.Seq, plain(done.Rule.Prefix), cmp.Or(what, done.Did), done.Seq)
	})
}

// resolveThen shows what a link opened at a past moment.
func (c *scanCommand) resolveThen(s *session) error {
	at, err := time.Parse(time.RFC3339, c.At)
	if err != nil {
		return misused("--at %q: want a time such as 2026-01-31T15:04:05Z", c.At)
	}
	qrjump, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	past, err := qrjump.ResolveThen(s.ctx, c.request(c.Link), at)
	if err != nil {
		return failed("scan", c.Link, err)
	}
	return c.print(s, past.Raw, func(w io.Writer) {
		printFields(w, [2]string{"then", opened(past.Then)}, [2]string{"now", opened(past.Now)})
		if len(past.Since) == 0 {
			fmt.Fprintln(w, "nothing changed since")
			return
		}
		fmt.Fprintln(w)
		rows := [][]string{}
		for _, e := range past.Since {
			seq := "-"
			if e.Seq > 0 {
				seq = number(e.Seq)
			}
			rows = append(rows, []string{seq, when(e.At), e.Kind, e.Did, plain(e.Key), e.Actor, orDash(e.RID)})
		}
		printTable(w, []string{"SEQ", "AT", "KIND", "DID", "WHICH", "BY", "RID"}, rows)
	})
}

// opened says in words what a decision of the past opened.
func opened(d client.PastDecision) string {
	switch d.Action {
	case client.OpenMiniProgram:
		text := "Mini Program " + d.AppID + ", " + d.Version + ", " + d.Path
		if m := d.Matched; m != nil && m.CodeIndex != nil {
			text += fmt.Sprintf(" (code %d of application %d)", *m.CodeIndex, m.ApplicationID)
		} else if m != nil {
			text += " (" + strings.ReplaceAll(m.Kind, "_", " ") + " " + m.Prefix + ")"
		}
		return plain(text)
	case client.OpenURL:
		return plain("the web page " + d.URL)
	case client.ShowText:
		return "the text " + strconv.Quote(d.Text)
	}
	return plain("a message: " + cmp.Or(d.Reason, d.Action))
}
