package main

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/infra/version"
)

// diagnosticReport is the content of doctor --report, for remote support; the report contains no secrets, and calls appear without
// their requests and responses.
type diagnosticReport struct {
	CreatedAt  time.Time           `json:"created_at"`
	Program    version.Info        `json:"program"`
	Go         string              `json:"go"`
	Platform   string              `json:"platform"`
	Checks     []verification.Step `json:"checks"`
	Settings   []client.Setting    `json:"settings"`        // Only settings that differ from their defaults are listed.
	Failed     []client.CallError  `json:"failed_calls"`    // Failed calls of the last days, grouped by endpoint and errcode.
	Goroutines []string            `json:"goroutines"`      // Stacks of the server's goroutines, grouped; empty without an admin's token.
	Slow       json.RawMessage     `json:"slow_statements"` // SQL statements that took 100 ms or longer; null without an admin's token.
	Unknown    []string            `json:"not_known"`       // The information that could not be read, and the reason.
}

// report writes the findings and the server's diagnostic data to a file.
func (c *doctorCommand) report(s *session, v walk) error {
	r := diagnosticReport{CreatedAt: time.Now().UTC(), Program: version.Get(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Checks:   v.steps(), Settings: []client.Setting{}, Failed: []client.CallError{}, Unknown: []string{},
		Goroutines: append([]string{}, v.goroutines...), Slow: v.slow}
	qrjump, err := c.client()
	if err == nil {
		err = r.collect(s, qrjump)
	}
	if err != nil {
		r.Unknown = append(r.Unknown, err.Error())
	}
	size, err := replaceFile(c.Report, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	})
	if err == nil && c.isTable() {
		printMsg(s.out, "doctor.report", plain(c.Report), counted(int(size), "byte"))
	}
	return err
}

// collect adds the data that only the server knows.
func (r *diagnosticReport) collect(s *session, qrjump *client.Client) error {
	settings, err := qrjump.Settings.List(s.ctx)
	if err != nil {
		return err
	}
	r.Settings = append(r.Settings, slices.DeleteFunc(settings, func(item client.Setting) bool { return !item.Changed() })...)
	// With an emulator, the latest calls are kept in memory and not in the call log.
	page, err := qrjump.Calls.List(s.ctx, client.CallQuery{Failed: true, Limit: 1000})
	if w, is := errors.AsType[*client.WrongServer](err); is && w.NoSuchCall {
		list, err := qrjump.Calls.ListErrors(s.ctx, "", "", 0, 0)
		r.Failed = append(r.Failed, list.Errors...)
		return err
	}
	r.Failed = append(r.Failed, failedOf(page.Calls)...)
	return err
}

// failedOf groups failed calls, which are sorted newest first, by endpoint and errcode, and counts each group.
func failedOf(calls []client.RecordedCall) (list []client.CallError) {
	for _, call := range calls {
		endpoint, _, _ := strings.Cut(call.URL, "?")
		if call.ErrCode == errcode.InvalidURL.Number {
			endpoint = "" // A path that matches no endpoint can contain anything, including a secret.
		}
		i := slices.IndexFunc(list, func(e client.CallError) bool { return e.Endpoint == endpoint && e.ErrCode == call.ErrCode })
		if i < 0 {
			i = len(list)
			list = append(list, client.CallError{Endpoint: endpoint, ErrCode: call.ErrCode, LastRID: call.RID, LastAt: call.OccurredAt,
				Detail: call.Detail})
		}
		list[i].Count++
	}
	return list
}
