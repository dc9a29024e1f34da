package main

import (
	"io"

	"github.com/qrjump/qrjump/client"
)

type ruleRelease struct {
	operator
	Prefix string `arg:""`
	Below  bool
	Reason string `required:"" placeholder:"TEXT"`
	Yes    bool
}

// Run takes rules away from their owners.
func (c *ruleRelease) Run(s *session) error {
	if !c.Yes {
		return misused("release.release_takes_rules_away_from",
			plain(c.Prefix))
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	all := []client.StoredRule{}
	for {
		released, more, err := qrjump.ReleasePrefix(s.ctx, client.Release{Prefix: c.Prefix, Below: c.Below, Reason: c.Reason})
		all = append(all, released...)
		if err != nil {
			return failed(said("release.after_release", counted(len(all), "rule")), c.Prefix, err)
		}
		if !more {
			break
		}
	}
	return c.print(s, map[string]any{"released": all}, func(w io.Writer) {
		rows := [][]string{}
		for _, r := range all {
			rows = append(rows, []string{r.Prefix, r.Owner, state(r.Published), r.Path})
		}
		printTable(w, []string{"PREFIX", "WAS OF", "STATE", "PAGE"}, rows)
		tell(w, "release.released_the_old_owners_were", counted(len(all), "rule"))
	})
}

type accountNotices struct {
	operator
	AppID string `arg:"" name:"appid"`
}

// Run shows what an account was told.
func (c *accountNotices) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Notices(s.ctx, c.AppID, 0)
	return listing[client.Notice]{name: "notices", none: plain(c.AppID) + said("release.was_told_nothing"),
		heads: []string{"AT", "WHAT", "PREFIX", "REASON"}, row: func(n client.Notice) []string {
			return []string{when(n.At), n.Kind, n.Prefix, n.Reason}
		}}.print(s, c.outputFlags, list, aboutAccount(s, qrjump, said("release.notices_of"), c.AppID, err))
}
