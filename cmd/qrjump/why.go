package main

import (
	"cmp"
	"io"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/unsupported"
	"github.com/qrjump/qrjump/internal/infra/errortext"
)

type whyCommand struct {
	operator
	RID string `arg:"" placeholder:"RID"`
}

// Run explains why the server responded to a call as it did, and how certain it is that the platform behaves in the same way.
func (c *whyCommand) Run(s *session, qrjump *client.Client) error {
	call, err := qrjump.Calls.Get(s.ctx, c.RID)
	return c.print(s, call, wrapped("why.why", c.RID, err), func(w io.Writer) {
		printMsg(w, "why.of", formatTime(call.OccurredAt), plain(call.Endpoint), plain(orDash(call.Account)))
		if call.Request != "" {
			printMsg(w, "why.sent", plain(call.Request))
		}
		printMsg(w, "why.answered", plain(call.Response))
		if call.Detail != "" {
			printMsg(w, "why.because", plain(errortext.In(outputLanguage.language(), call.Detail)))
		}
		printNotOffered(w, s.reader, call)
		for _, row := range call.Rows {
			printMsg(w, "why.behaviour", plain(row.ID), evidenceText(row), plain(s.inLanguage(row.English, row.Chinese)))
		}
		for _, id := range call.Deviations {
			printMsg(w, "why.deviation_qrjump_deviations_says_what", plain(id))
		}
	})
}

// printNotOffered explains a call of an unknown path. For a path of a platform API, printNotOffered describes the API and an alternative.
func printNotOffered(w io.Writer, r reader, call client.Call) {
	if call.ErrCode != errcode.InvalidURL.Number {
		return
	}
	if family, known := unsupported.Lookup(call.Endpoint); known {
		printMsg(w, "why.not_offered", r.msg(family.Is()), r.msg(family.Do()))
		return
	}
	printMsg(w, "why.no_such_path")
}

// evidenceText describes the evidence for a behaviour.
func evidenceText(b client.Behaviour) string {
	words := map[string]string{"observed": tr("why.observed"), "documented": tr("why.documented"),
		"inferred": tr("why.inferred"), "assumed": tr("why.assumed")}[b.EvidenceLevel]
	words = cmp.Or(words, b.EvidenceLevel)
	if b.Date != "" {
		words += ", " + b.Date
	}
	if b.Old {
		words += tr("why.older_than_three_years")
	}
	return words
}
