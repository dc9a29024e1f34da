package main

import (
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

// Run explains the response to a call and the certainty of the explanation.
func (c *whyCommand) Run(s *session, qrjump *client.Client) error {
	call, err := qrjump.Calls.Get(s.ctx, c.RID)
	if err != nil {
		return fault("why.why", c.RID, err)
	}
	return c.print(s, call, func(w io.Writer) {
		tell(w, "why.of", formatTime(call.OccurredAt), plain(call.Endpoint), plain(orDash(call.Account)))
		if call.Request != "" {
			tell(w, "why.sent", plain(call.Request))
		}
		tell(w, "why.answered", plain(call.Response))
		if call.Detail != "" {
			tell(w, "why.because", plain(errortext.In(speaks.language(), call.Detail)))
		}
		sayNotOffered(w, s.reader, call)
		for _, row := range call.Rows {
			tell(w, "why.behaviour", plain(row.ID), sureness(row),
				plain(s.inLanguage(row.English, row.Chinese)))
		}
		for _, id := range call.Deviations {
			tell(w, "why.deviation_qrjump_deviations_says_what", plain(id))
		}
	})
}

// sayNotOffered describes, for a path that qrjump does not offer, the platform's API at this path and an alternative.
func sayNotOffered(w io.Writer, r reader, call client.Call) {
	if call.ErrCode != errcode.InvalidURL.Number {
		return
	}
	if family, known := unsupported.Lookup(call.Endpoint); known {
		tell(w, "why.not_offered", r.say(family.Is()), r.say(family.Do()))
		return
	}
	tell(w, "why.no_such_path")
}

// sureness describes the evidence for a behaviour.
func sureness(b client.Behaviour) string {
	words := map[string]string{"observed": said("why.observed"), "documented": said("why.documented"),
		"inferred": said("why.inferred"), "assumed": said("why.assumed")}[b.EvidenceLevel]
	if words == "" {
		words = b.EvidenceLevel
	}
	if b.Date != "" {
		words += ", " + b.Date
	}
	if b.Old {
		words += said("why.older_than_three_years")
	}
	return words
}
