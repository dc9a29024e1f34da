package main

import (
	"encoding/json"
	"io"
	"runtime"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/verification"
	"github.com/qrjump/qrjump/internal/version"
)

// sickness is what doctor --report writes for somebody who helps from afar: nothing of it is secret, and calls are without their
// requests and answers.
type sickness struct {
	Made     time.Time           `json:"made_at"`
	Program  version.Info        `json:"program"`
	Go       string              `json:"go"`
	Platform string              `json:"platform"`
	Checks   []verification.Step `json:"checks"`
	Settings []client.Setting    `json:"settings"`     // those that somebody chose
	Failed   []client.CallError  `json:"failed_calls"` // of the last days, by interface and number
	Lacks    []string            `json:"not_known"`    // what could not be asked, and why
}

// report writes what was found, and what the server says of itself, to a file.
func (c *doctorCommand) report(s *session, v walk) error {
	r := sickness{Made: time.Now().UTC(), Program: version.Get(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Checks: v.steps(), Settings: []client.Setting{}, Failed: []client.CallError{}, Lacks: []string{}}
	qrjump, err := c.client()
	if err == nil {
		err = r.ask(s, qrjump)
	}
	if err != nil {
		r.Lacks = append(r.Lacks, err.Error())
	}
	size, err := replaceFile(c.Report, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	})
	if err == nil && !c.JSON {
		tell(s.out, "doctor.report", plain(c.Report), counted(int(size), "byte"))
	}
	return err
}

// ask adds what only the server knows.
func (r *sickness) ask(s *session, qrjump *client.Client) error {
	settings, err := qrjump.DescribeSettings(s.ctx)
	if err != nil {
		return err
	}
	for _, one := range settings {
		if one.Changed() {
			r.Settings = append(r.Settings, one)
		}
	}
	list, err := qrjump.CallErrors(s.ctx, "", "", 0, 0)
	if err != nil {
		return err
	}
	r.Failed = append(r.Failed, list.Errors...)
	return nil
}
