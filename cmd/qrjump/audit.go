package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type auditList struct {
	operator
	Kind  string `placeholder:"KIND"`
	Key   string `placeholder:"KEY"`
	Actor string `placeholder:"APPID"`
	Limit int    `default:"50" placeholder:"N"`
}

// Run lists the latest changes of the audit log, oldest first.
func (c *auditList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.AuditLog.List(s.ctx, client.ChangesQuery{Newest: true, Kind: c.Kind, Key: c.Key, Actor: c.Actor, Limit: c.Limit})
	return listing[client.Change]{name: "changes", none: tr("audit.none"), newestFirst: true,
		heads: []string{"SEQ", "TIME", "KIND", "ACTION", "OBJECT", "BY", "RID"},
		row: func(e client.Change) []string {
			actor := e.Actor + textIf(e.Via != "", " via "+e.Via)
			return []string{number(e.Seq), formatTime(e.OccurredAt), e.Kind, e.Action, plain(e.Key), actor, orDash(e.RID)}
		}}.print(s, c.outputFlags, list, failed("list", "changes", err))
}

type auditUndo struct {
	operator
	Seq int64 `arg:""`
	confirmFlag
}

// Run reverts a change of a rule or of a GS1 key; in a production context, Run asks for a confirmation.
func (c *auditUndo) Run(s *session, qrjump *client.Client) error {
	if s.inProduction() {
		if err := c.confirmed(s, tr("audit.undoes", c.Seq)); err != nil {
			return err
		}
	}
	list, err := qrjump.AuditLog.List(s.ctx, client.ChangesQuery{Before: c.Seq + 1, Newest: true, Limit: 1})
	if err != nil {
		return failed(tr("audit.undo_change"), number(c.Seq), err)
	}
	if len(list) == 1 && list[0].Seq == c.Seq && list[0].Kind == "gs1" {
		e, err := qrjump.GS1.UndoChange(s.ctx, c.Seq)
		return c.outcome(s, e, failed(tr("audit.undo_change"), number(c.Seq), err), "gs1.undone", plain(e.Key), c.Seq)
	}
	done, err := qrjump.Rules.UndoChange(s.ctx, c.Seq)
	return c.print(s, done, failed(tr("audit.undo_change"), number(c.Seq), err), func(w io.Writer) {
		kind := map[string]string{"add": tr("audit.restored"), "delete": tr("audit.deleted_again"),
			"edit": tr("audit.previous_state")}[done.Action]
		printMsg(w, "audit.change_is_undone_change", c.Seq, plain(done.Rule.Prefix), cmp.Or(kind, done.Action), done.Seq)
	})
}

// resolveThen shows which page a link opened at a time in the past.
func (c *scanCommand) resolveThen(s *session) error {
	t, err := parseTime("--at", c.At, false)
	if err != nil {
		return err
	}
	qrjump, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	q := client.ResolveAsOfQuery{Text: c.Link, At: t, Owner: c.Owner, User: c.User, Source: c.Source}
	pastOf, err := qrjump.Scans.ResolveAsOf(s.ctx, q)
	return c.print(s, pastOf.Raw, failed("scan", c.Link, err), func(w io.Writer) {
		printFields(w, [2]string{"at that time", opened(pastOf.Past)}, [2]string{"now", opened(pastOf.Current)})
		if len(pastOf.Changes) == 0 {
			printMsg(w, "audit.nothing_changed_since")
			return
		}
		fmt.Fprintln(w)
		heads := []string{"SEQ", "TIME", "KIND", "ACTION", "OBJECT", "BY", "RID"}
		printRows(w, heads, pastOf.Changes, func(e client.ChangedSince) []string {
			return []string{orDash(numberOrNone(e.Seq)), formatTime(e.OccurredAt), e.Kind, e.Action, plain(e.Key), e.Actor, orDash(e.RID)}
		})
	})
}

// opened describes the page, address, text or message that a past scan opened.
func opened(d client.PastDecision) string {
	switch d.Action {
	case client.OpenMiniProgram:
		text := tr("audit.mini_program") + d.AppID + ", " + d.Version + ", " + d.Path
		if m := d.Matched; m != nil && m.CodeIndex != nil {
			text += tr("audit.code_of_application", *m.CodeIndex, m.ApplicationID)
		} else if m != nil {
			text += " (" + strings.ReplaceAll(m.Kind, "_", " ") + " " + m.Prefix + ")"
		}
		return plain(text)
	case client.OpenURL:
		return plain(tr("audit.the_web_page") + d.URL)
	case client.ShowText:
		return tr("audit.the_text") + strconv.Quote(d.Text)
	}
	return plain("a message: " + cmp.Or(d.Reason, d.Action))
}
