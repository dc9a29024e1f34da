package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync/atomic"
	"time"
)

// ScanRequest is one scan.
type ScanRequest struct {
	Text   string     `json:"text"`             // The text that the camera read.
	User   string     `json:"user,omitempty"`   // The app's own user ID; "" means an anonymous scan.
	Source string     `json:"source,omitempty"` // Source is scan, press or album; "" means scan.
	At     *time.Time `json:"at,omitempty"`     // Time of the scan, for replays; allowed only on an emulator.
}

// The actions of a decision.
const (
	OpenMiniProgram = "open_mini_program"
	OpenURL         = "open_url"
	ShowText        = "show_text"
	ShowMessage     = "show_message"
)

// Decision is the result of a scan.
type Decision struct {
	ScanID  string   `json:"scan_id,omitempty"`
	Action  string   `json:"action"`
	AppID   string   `json:"appid,omitempty"`
	Version string   `json:"version,omitempty"`
	Path    string   `json:"path,omitempty"` // Path of the page including its query.
	Scene   int      `json:"scene,omitempty"`
	Matched *Matched `json:"matched,omitempty"`
	URL     string   `json:"url,omitempty"`
	Text    string   `json:"text,omitempty"`
	Message string   `json:"message,omitempty"`
	Reason  string   `json:"reason,omitempty"`

	Raw json.RawMessage `json:"-"` // The response as received.
}

// Matched is the rule, code or key that a scan matched.
type Matched struct {
	Kind          string `json:"kind" enum:"rule,test_link,service_rule,code,gs1"`
	Prefix        string `json:"prefix,omitempty"`
	ApplicationID int64  `json:"application_id,omitempty"` // of a code
	CodeIndex     *int64 `json:"code_index,omitempty"`
}

const resolvePath = "/scan/v1/resolve"

// Resolve returns the decision about a scan.
func (c ScansService) Resolve(ctx context.Context, r ScanRequest) (d Decision, err error) {
	d.Raw, err = c.adminCall(ctx, request{method: http.MethodPost, path: resolvePath, bearer: c.options.ScanKey}, r, &d)
	return d, err
}

// ExplainRequest is a request for an explanation of a scan's result.
type ExplainRequest struct {
	ScanRequest
	AssumePublished bool          `json:"assume_published,omitempty"` // Treat every rule as published.
	Assume          []AssumedRule `json:"assume,omitempty"`           // Treat the listed rules as existing.
}

// AssumedRule is a rule that an explanation assumes to be stored.
type AssumedRule struct {
	Owner       string   `json:"owner"`
	Prefix      string   `json:"prefix"`
	Path        string   `json:"path,omitempty"`
	AppID       string   `json:"appid,omitempty"`
	Published   bool     `json:"published"`
	Occupy      bool     `json:"occupy,omitempty"`
	OpenVersion int      `json:"open_version,omitempty"`
	TestLinks   []string `json:"test_links,omitempty"`
}

// Explanation is a decision with the verdict on each stored rule whose prefix is similar to the link.
type Explanation struct {
	Decision
	Steps []Step `json:"steps"` // nearest first
	// CodePrefix is the code prefix with which the text begins, whether or not the text is a code; "" if the text begins with no
	// code prefix.
	CodePrefix string `json:"code_prefix,omitempty"`
}

// Step is the verdict on one rule whose prefix is similar to the link.
type Step struct {
	Prefix  string `json:"prefix"`
	Owner   string `json:"owner"`
	Verdict string `json:"verdict" enum:"opens,matches_but_shorter,unpublished_hides,unpublished,scheme_differs,host_differs,not_sub_path,path_differs,parameters_differ,no_release,owner_switched_off"`
	English string `json:"en"`
	Chinese string `json:"zh"`

	Behaviour     string `json:"behaviour" answer:"optional" doc:"ID of the behaviour on which the verdict depends, see /admin/v1/behaviours"`
	EvidenceLevel string `json:"evidence_level" answer:"optional" enum:"observed,documented,inferred,assumed" doc:"level of evidence of the behaviour"`
	Date          string `json:"date,omitempty" doc:"date of the newest evidence"`
	Known         string `json:"evidence_en" answer:"optional" doc:"level and date of the evidence as English text"`
	KnownZH       string `json:"evidence_zh" answer:"optional" doc:"level and date of the evidence as Chinese text"`
}

// Explain returns the result of a scan and its explanation. It records nothing.
func (c ScansService) Explain(ctx context.Context, r ExplainRequest) (e Explanation, err error) {
	e.Raw, err = c.adminCall(ctx, request{method: http.MethodPost, path: "/scan/v1/explain", bearer: c.options.ScanKey}, r, &e)
	return e, err
}

// maxLine is the maximum length in bytes of one response line of a stream.
const maxLine = 64 << 10

// ResolveStream resolves scans over one connection, and yields the decisions in the order of the requests. Each decision contains
// Raw. For an invalid request, the decision contains only Raw, such as {"error": …}, and the stream continues. An error of the
// entire stream is yielded last. The stream continues until the requests end; limit the duration with ctx.
func (c ScansService) ResolveStream(ctx context.Context, requests iter.Seq[ScanRequest]) iter.Seq2[Decision, error] {
	return func(yield func(Decision, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		lines, sink := io.Pipe()
		defer lines.Close() // Closing the pipe ends the goroutine below at its next request.
		var sent atomic.Int64
		var finished atomic.Bool
		go func() {
			for r := range requests {
				line, err := encode(r)
				if err == nil {
					sent.Add(1)
					_, err = sink.Write(append(line, '\n'))
				}
				if err != nil {
					sink.CloseWithError(err)
					return
				}
			}
			finished.Store(true)
			sink.Close()
		}()
		resp, err := c.open(ctx, request{method: http.MethodPost, path: resolvePath, bearer: c.options.ScanKey,
			contentType: ndjson, accept: ndjson, body: lines})
		if err != nil {
			yield(Decision{}, err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			yield(Decision{}, c.refusedUnread(http.MethodPost, resolvePath, resp))
			return
		}
		answers := bufio.NewScanner(resp.Body)
		answers.Buffer(nil, maxLine)
		var received int64
		for answers.Scan() {
			received++
			d := Decision{Raw: bytes.Clone(answers.Bytes())}
			if err := decode(d.Raw, &d, false); err != nil && !badLine(d.Raw) {
				yield(Decision{}, c.invalidResponse(http.MethodPost, resolvePath, "%v", err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
		err = answers.Err()
		if err == nil && (!finished.Load() || received < sent.Load()) {
			// The server ends the stream if no request arrives for some time.
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			yield(Decision{}, &Unreachable{URL: c.baseOf(resolvePath),
				Err: fmt.Errorf("the response ended after %d results: %w", received, err)})
		}
	}
}

// badLine reports whether a response line of a stream is the error of an invalid request.
func badLine(answer []byte) bool {
	var bad struct {
		Error string `json:"error"`
	}
	return json.Unmarshal(answer, &bad) == nil && bad.Error != ""
}
