package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type deviationsCommand struct {
	operator
	Account string `placeholder:"APPID"`
	FailOn  string `placeholder:"LEVEL" enum:",observed,documented,inferred,assumed" default:""`
	Clear   bool
	// Coverage prints, instead of deviations, the platform behaviours that the program under test has or has not triggered yet.
	Coverage bool
}

// evidenceLevels lists the evidence levels, most certain first.
var evidenceLevels = []string{"observed", "documented", "inferred", "assumed"}

// errDeviations makes the command exit with code 1 after the list is printed.
var errDeviations = constant("deviations.callers_deviated_from_the_platform")

// Run lists deviations, or clears the list.
func (c *deviationsCommand) Run(s *session, qrjump *client.Client) error {
	if c.Coverage {
		return c.coverage(s, qrjump)
	}
	ask := qrjump.Deviations.List
	if c.Clear {
		ask = qrjump.Deviations.Reset
	}
	list, err := ask(s.ctx, c.Account)
	err = emptyFor(s, qrjump, tr("deviations.deviations_of"), c.Account, len(list), wrapped("deviations.deviations", err))
	err = c.print(s, map[string]any{"deviations": list}, err, func(w io.Writer) {
		switch {
		case c.Clear:
			printMsg(w, "deviations.cleared")
		case len(list) == 0:
			printMsg(s.err, "deviations.none")
		default:
			printDeviations(w, s.reader, list)
		}
	})
	if err == nil && c.FailOn != "" && !c.Clear && slices.ContainsFunc(list, func(d client.Deviation) bool {
		return isAtLeastAsCertain(d.EvidenceLevel, c.FailOn)
	}) {
		err = errDeviations
	}
	return err
}

// isAtLeastAsCertain reports whether the evidence level mark is at least as certain as the level peer.
func isAtLeastAsCertain(mark, peer string) bool {
	i := slices.Index(evidenceLevels, mark)
	return i >= 0 && i <= slices.Index(evidenceLevels, peer)
}

// printDeviations prints a table of deviations, most certain first, and then the advice for each behaviour.
func printDeviations(w io.Writer, r reader, list []client.Deviation) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b client.Deviation) int {
		return slices.Index(evidenceLevels, a.EvidenceLevel) - slices.Index(evidenceLevels, b.EvidenceLevel)
	})
	heads := []string{"BEHAVIOUR", "EVIDENCE", "ACCOUNT", "ENDPOINT", "COUNT", "FIRST", "LAST"}
	printRows(w, heads, list, func(d client.Deviation) []string {
		return []string{d.Behaviour, d.EvidenceLevel, orDash(d.Account), d.Endpoint, number(d.Count), d.FirstRID, d.LastRID}
	})
	printMsg(w, "deviations.what_to_change_in_the")
	words := map[string]bool{}
	for _, d := range list {
		if !words[d.Behaviour] {
			words[d.Behaviour] = true
			fmt.Fprintf(w, "%s: %s\n", plain(d.Behaviour), plain(r.inLanguage(d.Advice, d.Chinese)))
		}
	}
}

// coverage lists the platform behaviours that calls of any program can trigger. For each behaviour that has not occurred on this server,
// coverage prints a command that triggers the behaviour.
func (c *deviationsCommand) coverage(s *session, qrjump *client.Client) error {
	if c.Clear || c.FailOn != "" {
		return misused("deviations.coverage_combined")
	}
	found, err := qrjump.Deviations.GetCoverage(s.ctx, c.Account)
	err = emptyFor(s, qrjump, tr("deviations.deviations_of"), c.Account, found.Total, wrapped("deviations.deviations", err))
	return c.print(s, found, err, func(w io.Writer) {
		if found.Total == 0 {
			printMsg(w, "deviations.no_call_was_made")
			return
		}
		printRows(w, []string{"ERRCODE", "OCCURRED", "CALLS", "DESCRIPTION"}, found.Trials, func(t client.CoverageItem) []string {
			met := textOr(t.Occurred, number(int64(t.Count)), tr("deviations.not_covered"))
			return []string{number(int64(t.ErrCode)), met, number(int64(t.Calls)), s.reader.inLanguage(t.English, t.Chinese)}
		})
		printMsg(w, "deviations.covered", found.Covered, found.Total)
		for _, t := range found.Trials {
			if !t.Occurred {
				fmt.Fprintln(w, plain(t.Command))
			}
		}
	})
}

type behaviourList struct {
	operator
	Evidence string `enum:",observed,documented,inferred,assumed" default:"" placeholder:"LEVEL"`
	Prefix   string `placeholder:"BEGINNING"`
	ID       string `arg:"" optional:"" name:"id"`
}

// Run lists the server's behaviours that might differ from the platform's, or shows a behaviour with its evidence.
func (c *behaviourList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Behaviours.List(s.ctx)
	err = failed("list", "behaviours", err)
	if c.ID != "" {
		return c.show(s, list, err)
	}
	list = slices.DeleteFunc(list, func(b client.Behaviour) bool {
		return c.Evidence != "" && b.EvidenceLevel != c.Evidence || !strings.HasPrefix(b.ID, c.Prefix)
	})
	return listing[client.Behaviour]{name: "behaviours", none: tr("behaviour.none"),
		heads: []string{"BEHAVIOUR", "EVIDENCE", "SINCE", "SERVER BEHAVIOUR"},
		row:   func(b client.Behaviour) []string { return []string{b.ID, b.EvidenceLevel, orDash(b.Date), b.English} },
	}.print(s, c.outputFlags, list, err)
}

// show shows a behaviour with its evidence.
func (c *behaviourList) show(s *session, list []client.Behaviour, err error) error {
	behaviour, err := named(list, err, func(b client.Behaviour) string { return b.ID }, "show", c.ID, "behaviour", "qrjump behaviour list")
	return c.print(s, behaviour, err, func(w io.Writer) {
		server := msg("behaviour.server")
		printFields(w, [2]string{"behaviour", behaviour.ID}, [2]string{server.English(), behaviour.English},
			[2]string{server.Chinese(), behaviour.Chinese},
			[2]string{"evidence level", evidenceText(behaviour)}, [2]string{"evidence", behaviour.Source}, [2]string{"contract",
				behaviour.Section})
	})
}
