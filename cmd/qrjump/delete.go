package main

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// deletion holds the flags of the commands that delete an account or a platform.
type deletion struct {
	operator
	AppID  string `arg:"" name:"appid"`
	DryRun bool
	confirmFlag
}

type accountDelete struct{ deletion }

// Run deletes an account, or reports the objects that block the deletion.
func (c *accountDelete) Run(s *session, qrjump *client.Client) error {
	return c.remove(s, qrjump.Accounts.Delete, func(err error) error { return aboutAccount(s, qrjump, "delete", c.AppID, err) })
}

type componentDelete struct{ deletion }

// Run deletes a third-party platform.
func (c *componentDelete) Run(s *session, qrjump *client.Client) error {
	return c.remove(s, qrjump.Components.Delete, func(err error) error { return aboutComponent(s, qrjump, "delete", c.AppID, err) })
}

// remove asks the server which dependencies exist, then asks the user at the terminal, and then deletes the object.
func (c *deletion) remove(s *session, remove func(ctx context.Context, appid string, dryRun bool) (client.Deletion, error),
	fn func(error) error) error {
	would, err := remove(s.ctx, c.AppID, true)
	if err != nil {
		return fn(err)
	}
	if c.DryRun {
		return c.print(s, would, nil, func(w io.Writer) { printDeletion(w, would) })
	}
	if len(would.BlockedBy) > 0 {
		return keptObjects(would)
	}
	goes := cmp.Or(amounts(would.Deletes), tr("delete.alone"))
	if err := c.confirmed(s, tr("delete.takes", plain(c.AppID), goes)); err != nil {
		return err
	}
	did, err := remove(s.ctx, c.AppID, false)
	if isProblem(err, http.StatusConflict) {
		if would, asked := remove(s.ctx, c.AppID, true); asked == nil && len(would.BlockedBy) > 0 { // a new dependency
			return keptObjects(would)
		}
	}
	if err == nil && !did.Deleted {
		return keptObjects(did)
	}
	return c.outcome(s, did, fn(err), "delete.did", plain(c.AppID))
}

// keptObjects returns the error for an object that cannot be deleted, with a remedy for each dependency that blocks the deletion.
func keptObjects(d client.Deletion) error {
	do := mapped(d.BlockedBy, func(item client.DeletionCount) string { return amount(item) + ": " + remedyOf(item, d.AppID) })
	return exitError{hintError{error: fault("delete.kept", plain(d.AppID), amounts(d.BlockedBy)), details: do}, exitRefused}
}

func amount(item client.DeletionCount) string {
	if key := "delete.of." + item.Kind; catalog.Has(key) {
		return tr(key, item.Count)
	}
	return plain(item.Kind) + " " + strconv.Itoa(item.Count) // Only a newer server sends a kind that this program does not know.
}

func amounts(list []client.DeletionCount) string {
	return strings.Join(mapped(list, amount), tr("delete.and"))
}

func printDeletion(w io.Writer, d client.Deletion) {
	printFields(w, [2]string{"appid", d.AppID}, [2]string{tr("delete.also_deleted"), orDash(amounts(d.Deletes))},
		[2]string{tr("delete.prevents"), amounts(d.BlockedBy)})
	if len(d.BlockedBy) == 0 {
		printMsg(w, "delete.would", plain(d.AppID))
		return
	}
	for _, item := range d.BlockedBy {
		printFields(w, [2]string{amount(item), remedyOf(item, d.AppID)})
	}
}

// remedyOf returns the remedy for an object that blocks the deletion of an account; "" means that this program knows no remedy.
func remedyOf(item client.DeletionCount, appid string) string {
	if key := "delete.do." + item.Kind; catalog.Has(key) {
		return tr(key, plain(appid))
	}
	return ""
}
