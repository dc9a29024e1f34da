package main

import (
	"io"

	"github.com/qrjump/qrjump/client"
)

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
	asked := client.Release{Prefix: c.Prefix, Below: c.Below, Reason: c.Reason, DryRun: c.DryRun}
	for {
		released, hasMore, err := qrjump.Rules.ForceDelete(s.ctx, asked)
		all = append(all, released...)
		if err != nil {
			return failed(tr("release.after_release", counted(len(all), "rule")), c.Prefix, err)
		}
		rest = hasMore
		if !hasMore || c.DryRun {
			break
		}
	}
	answer := map[string]any{"released": all}
	if c.DryRun {
		answer = map[string]any{"would_release": all, "more": rest}
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
