package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

type ruleList struct {
	member
	adminFlags
	Owner  string `placeholder:"APPID"`
	Target string `placeholder:"APPID"`
	After  int64  `placeholder:"ID"`
	Limit  int    `default:"100" placeholder:"N"`
}

// Run lists rules, oldest first: the calling account lists its own rules, and an operator lists the rules of all accounts.
func (c *ruleList) Run(s *session) error {
	if c.Limit < 0 {
		return misused("rule.limit_want_a_number_from", c.Limit)
	}
	if c.Owner == "" && (c.AppID != "" || c.AccessToken != "") {
		return c.ofAccount(s)
	}
	loc, token, err := c.admin(c.adminFlags)
	if err != nil {
		return err
	}
	qrjump, err := c.connect(loc, client.Options{AdminToken: token})
	if err != nil {
		return err
	}
	const page = 1000
	all := []client.StoredRule{}
	start, hasMore := c.After, true
	for hasMore {
		limit := page
		if c.Limit > 0 {
			limit = min(page, c.Limit-len(all))
		}
		list, err := qrjump.Rules.List(s.ctx, client.StoredRuleQuery{Owner: c.Owner, Target: c.Target, After: start, Limit: limit})
		if err != nil && token == "" && c.Owner == "" {
			return c.ofAccount(s) // if the credentials of an account are missing too, ofAccount reports that
		}
		if err != nil {
			return fault("rule.list_rules", err)
		}
		all = append(all, list...)
		if len(list) > 0 {
			start = list[len(list)-1].ID
		}
		if hasMore = len(list) == limit; hasMore && len(all) == c.Limit {
			break
		}
	}
	for _, appid := range []string{c.Owner, c.Target} {
		if err := emptyFor(s, qrjump, tr("rule.list_rules_of"), appid, len(all), nil); err != nil {
			return err
		}
	}
	parent := textIf(hasMore, tr("rule.there_may_be_more_after", start))
	return listing[client.StoredRule]{name: "rules", none: tr("rule.none"),
		heads: []string{"ID", "OWNER", "PREFIX", "STATE", "OPENS", "PAGE", "TEST LINKS"},
		more:  parent,
		row: func(r client.StoredRule) []string {
			return []string{number(r.ID), r.Owner, r.Prefix, state(r.Published), cmp.Or(r.Target, r.Owner), r.Path,
				orDash(strings.Join(r.TestLinks, " "))}
		}}.print(s, c.outputFlags, all, nil)
}

// ofAccount lists the rules of the calling account.
func (c *ruleList) ofAccount(s *session) error {
	wire, err := c.client(s)
	if err != nil {
		return err
	}
	list, err := allRules(s, wire.Wire, c.Target)
	return c.print(s, list, wrapped("rule.list_rules", err), func(w io.Writer) {
		if len(list.Rules) > 0 {
			heads := []string{"PREFIX", "STATE", "PAGE", "TEST VERSION", "OCCUPIES", "TEST LINKS"}
			printRows(w, heads, list.Rules, func(r client.Rule) []string {
				return []string{r.Prefix, state(r.Published), r.Path, testRange(r.OpenVersion), orDash(occupies(r)),
					orDash(strings.Join(r.TestLinks, " "))}
			})
		}
		printMsg(w, "rule.left_this_month", counted(len(list.Rules), "rule"), counted(list.PublishesLeft, "publish"))
		if !list.Open {
			printMsg(w, "rule.jumping_is_switched_off_for")
		}
	})
}

func state(published bool) string { return textOr(published, "published", "unpublished") }

// testRange returns the version that test links open; "-" for the rule of a service account, which has no test links.
func testRange(v client.OpenVersion) string {
	return orDash(map[client.OpenVersion]string{client.OpenDevelopment: "development", client.OpenTrial: "trial",
		client.OpenRelease: "release"}[v])
}

func occupies(r client.Rule) string { return textIf(r.OpenVersion != 0, yesNo(r.Occupy)) }

type ruleAdd struct {
	member
	adminFlags
	Prefix      string `arg:""`
	Page        string `arg:""`
	Occupy      bool
	OpenVersion int      `enum:"1,2,3" default:"3" placeholder:"1|2|3"`
	TestLink    []string `sep:"none" placeholder:"LINK"`
	Target      string   `placeholder:"APPID"`
	Publish     bool
}

// Run adds a rule and, with --publish, publishes the rule.
func (c *ruleAdd) Run(s *session, wire *client.Client) error {
	if c.Target != "" && (c.Occupy || c.OpenVersion != int(client.OpenRelease) || len(c.TestLink) > 0) {
		return misused("rule.not_for_services")
	}
	err := wire.Wire.CreateRule(s.ctx, client.RuleDraft{Prefix: c.Prefix, Path: c.Page, AppID: c.Target, Occupy: c.Occupy,
		OpenVersion: client.OpenVersion(c.OpenVersion), TestLinks: c.TestLink})
	if err != nil {
		return failed("add", c.Prefix, confirmFailed(s.ctx, c.serverFlags, c.adminFlags, err))
	}
	if !c.Publish {
		return c.done(s, c.Prefix, "added", tr("rule.make_it_live_with_qrjump", c.command("rule", "publish", c.Prefix)))
	}
	if err := wire.Wire.PublishRule(s.ctx, c.Prefix); err != nil {
		return failed(tr("rule.added_but_publish"), c.Prefix, err)
	}
	return c.done(s, c.Prefix, tr("rule.added_and_published"), "")
}

// done prints the completed action on a rule.
func (m member) done(s *session, prefix, did, next string) error {
	return m.print(s, map[string]any{"prefix": prefix, "action": did}, nil, func(w io.Writer) {
		fmt.Fprintln(w, plain(localizeOr("past."+did, did)+" "+prefix+next))
	})
}

// confirmFailed adds to an error with errcode 85069 the reason why the verification file failed the check, if the admin API is accessible.
func confirmFailed(ctx context.Context, server serverFlags, admin adminFlags, err error) error {
	w, ok := errors.AsType[*client.WireError](err)
	if !ok || w.Code != errcode.ConfirmFileFailed.Number || w.RID == "" {
		return err
	}
	loc, token, findErr := server.admin(admin)
	if findErr != nil {
		return err
	}
	operator, newErr := client.New(loc.url, client.Options{AdminToken: token, Timeout: 5 * time.Second})
	if newErr != nil {
		return err
	}
	// This call only adds detail to the error; if the call fails, the original error is returned unchanged.
	list, listErr := operator.Verifications.ListChecks(ctx, client.VerificationQuery{RID: w.RID, Limit: 1})
	if listErr != nil || len(list) == 0 {
		return err
	}
	a := hintError{error: err, next: list[0].URL + " " + list[0].Reason}
	for _, step := range list[0].Steps {
		if step.Failed {
			a.details = append(a.details, step.Action+": "+step.Detail)
		}
	}
	return a
}

type ruleEdit struct {
	member
	Prefix      string   `arg:""`
	Page        string   `arg:"" optional:""`
	Occupy      *bool    `negatable:""`
	OpenVersion int      `enum:"0,1,2,3" default:"0" placeholder:"1|2|3"`
	TestLink    []string `sep:"none" placeholder:"LINK" xor:"links"`
	NoTestLinks bool     `xor:"links"`
	Target      string   `placeholder:"APPID"`
}

// Run changes the fields that the flags name; the wire API requires all fields, so Run sends the other fields with their old values.
func (c *ruleEdit) Run(s *session, wire *client.Client) error {
	if c.Target != "" && (c.Occupy != nil || c.OpenVersion != 0 || len(c.TestLink) > 0 || c.NoTestLinks) {
		return misused("rule.not_for_services")
	}
	list, err := wire.Wire.ListRules(s.ctx, client.ListRequest{AppID: c.Target, Prefixes: []string{c.Prefix}})
	if err != nil {
		return failed("edit", c.Prefix, err)
	}
	if len(list.Rules) != 1 {
		return fault("rule.edit_this_account_has_no", c.Prefix)
	}
	old := list.Rules[0]
	if old.OpenVersion == 0 && c.Target == "" {
		return misused("rule.edit_it_is_a_service", c.Prefix)
	}
	d := client.RuleDraft{Prefix: c.Prefix, Path: cmp.Or(c.Page, old.Path), AppID: c.Target, Occupy: old.Occupy,
		OpenVersion: cmp.Or(client.OpenVersion(c.OpenVersion), old.OpenVersion), TestLinks: c.TestLink}
	assign(&d.Occupy, c.Occupy)
	if c.NoTestLinks {
		d.TestLinks = []string{}
	}
	err = wire.Wire.UpdateRule(s.ctx, d)
	if w, ok := errors.AsType[*client.WireError](err); ok && w.Code == errcode.InvalidArgs.Number && old.Published {
		return hintError{error: failed("edit", c.Prefix, err), next: tr("rule.the_page_of_a_published")}
	}
	if err != nil {
		return failed("edit", c.Prefix, err)
	}
	return c.done(s, c.Prefix, "changed", "")
}

type rulePublish struct {
	member
	Prefix string `arg:""`
}

// Run publishes a rule and prints the number of publishes left this month.
func (c *rulePublish) Run(s *session, wire *client.Client) error {
	if err := wire.Wire.PublishRule(s.ctx, c.Prefix); err != nil {
		return c.unknown("publish", c.Prefix, err)
	}
	left := ""
	if list, err := wire.Wire.ListRules(s.ctx, client.ListRequest{Prefixes: []string{c.Prefix}}); err == nil {
		left = tr("rule.left_this_month_2", counted(list.PublishesLeft, "publish"))
	}
	return c.done(s, c.Prefix, "published", left)
}

// unknown explains an error of a call whose only argument is a prefix: errcode InvalidArgs means that no rule has this prefix.
func (m member) unknown(did, prefix string, err error) error {
	if w, ok := errors.AsType[*client.WireError](err); ok && w.Code == errcode.InvalidArgs.Number {
		return absent(hintError{error: failed(did, prefix, err), next: tr("rule.this_account_has_no_such")})
	}
	return failed(did, prefix, err)
}

type ruleDelete struct {
	member
	Prefix string `arg:""`
	Target string `placeholder:"APPID"`
	confirmFlag
}

// Run deletes a rule.
func (c *ruleDelete) Run(s *session, wire *client.Client) error {
	if link, ok := rules.ParseLink(c.Prefix); ok && link.IsService() && c.Target == "" {
		return misused("rule.a_service_account_s_rule")
	}
	if err := c.confirmed(s, tr("rule.deletes", plain(c.Prefix))); err != nil {
		return err
	}
	if err := wire.Wire.DeleteRule(s.ctx, c.Prefix, c.Target); err != nil {
		return c.unknown("delete", c.Prefix, err)
	}
	return c.done(s, c.Prefix, "deleted", "")
}

type ruleFile struct {
	member
	Prefix string `placeholder:"PREFIX"`
	Write  string `placeholder:"DIR" file:"dir"`
}

// Run shows the account's verification file. Contract: rules §1.6, §2.7.
func (c *ruleFile) Run(s *session, wire *client.Client) error {
	// Mini Programs and service accounts have different prefixes, but both kinds of prefix are valid links.
	prefix, ok := rules.ParseLink(c.Prefix)
	if c.Prefix != "" && !ok {
		return misused("rule.prefix_want_http_or_https", c.Prefix)
	}
	file, err := wire.Wire.GetVerificationFile(s.ctx)
	if err != nil {
		return fault("rule.verification_file", err)
	}
	location := tr("rule.in_the_folder_of_the") + file.Name
	if c.Prefix != "" {
		location = rules.Prefix{Link: prefix}.ConfirmAddress(file.Name)
	}
	written := ""
	if c.Write != "" {
		if written, err = write(c.Write, file); err != nil {
			return err
		}
	}
	answer := map[string]any{"name": file.Name, "content": file.Content, "written": written}
	if c.Prefix != "" {
		answer["url"] = location
	}
	return c.print(s, answer, nil, func(w io.Writer) {
		printFields(w, [2]string{"name", file.Name}, [2]string{"content", file.Content}, [2]string{"location", location},
			[2]string{"requirement", tr("rule.it_is_answered_with_status")}, [2]string{"written", written})
	})
}

// write writes the verification file into the folder; the file name comes from the server and must not lead out of the folder.
func write(dir string, file client.VerificationFile) (path string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", misused("rule.write", err)
	}
	defer root.Close()
	if strings.ContainsAny(file.Name, `/\`) {
		return "", fault("rule.the_server_names_the_file", file.Name)
	}
	if err := root.WriteFile(file.Name, []byte(file.Content), 0o644); err != nil {
		return "", fault("rule.writing_the_verification_file", err)
	}
	return strings.TrimSuffix(dir, "/") + "/" + file.Name, nil
}

type ruleHistory struct {
	operator
	Prefix string `arg:""`
}

// Run shows the history of a prefix.
func (c *ruleHistory) Run(s *session, qrjump *client.Client) error {
	changes, err := qrjump.Rules.ListChanges(s.ctx, c.Prefix)
	return listing[client.RuleChange]{name: "changes", none: tr("rule.no_history") + plain(c.Prefix), newestFirst: true,
		heads: []string{"SEQ", "TIME", "ACTION", "BY", "STATE", "OPENS", "PAGE", "RID"}, row: func(h client.RuleChange) []string {
			return []string{number(h.Seq), formatTime(h.OccurredAt), h.Action, h.Actor, state(h.Rule.Published),
				h.Rule.Target, h.Rule.Path, orDash(h.RID)}
		}}.print(s, c.outputFlags, changes, failed(tr("rule.history_of"), c.Prefix, err))
}

type ruleConflicts struct {
	operator
	Prefix string `arg:""`
}

// Run shows the rules that prevent an account from adding a prefix.
func (c *ruleConflicts) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Rules.ListConflicts(s.ctx, c.Prefix)
	return listing[client.StoredRule]{name: "rules", none: tr("rule.no_conflicts") + plain(c.Prefix),
		heads: []string{"OWNER", "PREFIX", "OCCUPIES", "STATE", "PAGE"}, row: func(r client.StoredRule) []string {
			return []string{r.Owner, r.Prefix, yesNo(r.Occupy), state(r.Published), r.Path}
		}}.print(s, c.outputFlags, list, failed(tr("rule.conflicts"), c.Prefix, err))
}

type ruleForceDelete struct {
	operator
	Prefix string `arg:""`
	Below  bool
	Reason string `required:"" placeholder:"TEXT"`
	DryRun bool
	confirmFlag
}

// Run deletes rules of other accounts by force.
func (c *ruleForceDelete) Run(s *session, qrjump *client.Client) error {
	if !c.DryRun {
		if err := c.confirmed(s, tr("release.takes_rules_away", plain(c.Prefix))); err != nil {
			return err
		}
	}
	all, rest := []client.StoredRule{}, false
	asked := client.ForceDeleteRequest{Prefix: c.Prefix, Below: c.Below, Reason: c.Reason, DryRun: c.DryRun}
	for {
		deleted, hasMore, err := qrjump.Rules.ForceDelete(s.ctx, asked)
		all = append(all, deleted...)
		if err != nil {
			return failed(tr("release.after_release", counted(len(all), "rule")), c.Prefix, err)
		}
		rest = hasMore
		if !hasMore || c.DryRun {
			break
		}
	}
	answer := map[string]any{"deleted": all}
	if c.DryRun {
		answer = map[string]any{"would_delete": all, "more": rest}
	}
	return c.print(s, answer, nil, func(w io.Writer) {
		printRows(w, []string{"PREFIX", "FORMER OWNER", "STATE", "PAGE"}, all, func(r client.StoredRule) []string {
			return []string{r.Prefix, r.Owner, state(r.Published), r.Path}
		})
		switch {
		case c.DryRun && rest:
			printMsg(w, "release.would_release_more", counted(len(all), "rule"))
			return
		case c.DryRun:
			printMsg(w, "release.would_release", counted(len(all), "rule"))
			return
		}
		printMsg(w, "release.released_the_old_owners_were", counted(len(all), "rule"))
	})
}
