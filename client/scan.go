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
	Text   string     `json:"text"`             // what the camera read
	User   string     `json:"user,omitempty"`   // the app's own user id; "" = an anonymous scan
	Source string     `json:"source,omitempty"` // scan, press or album; "" = scan
	At     *time.Time `json:"at,omitempty"`     // for replays, on an emulator only
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
	Path    string   `json:"path,omitempty"` // page with its query
	Scene   int      `json:"scene,omitempty"`
	Matched *Matched `json:"matched,omitempty"`
	URL     string   `json:"url,omitempty"`
	Text    string   `json:"text,omitempty"`
	Message string   `json:"message,omitempty"`
	Reason  string   `json:"reason,omitempty"`

	Raw json.RawMessage `json:"-"` // the answer as it came
}

// Matched is the rule, code or key that a scan matched.
type Matched struct {
	Kind          string `json:"kind"` // rule, test_link, service_rule, code, …
	Prefix        string `json:"prefix,omitempty"`
	ApplicationID int64  `json:"application_id,omitempty"` // of a code
	CodeIndex     *int64 `json:"code_index,omitempty"`
}

// Resolve says what a scan opens.
func (c ScansService) Resolve(ctx context.Context, r ScanRequest) (Decision, error) {
	var d Decision
	raw, err := c.adminCall(ctx, call{method: http.MethodPost, path: "/scan/v1/resolve", bearer: c.options.ScanKey, body: r}, &d)
	d.Raw = raw
	return d, err
}

// ExplainRequest asks why a scan opens what it opens.
type ExplainRequest struct {
	ScanRequest
	AssumePublished bool          `json:"assume_published,omitempty"` // as if every rule were published
	Assume          []AssumedRule `json:"assume,omitempty"`           // as if these rules existed
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

// Explanation is a decision and what every rule nearby had to do with it.
type Explanation struct {
	Decision
	Steps []Step `json:"steps"` // nearest first
	// CodePrefix is the prefix of codes with which the text begins, whether or not it is a code; "" = with none.
	CodePrefix string `json:"code_prefix,omitempty"`
}

// Step is one rule that was near the link.
type Step struct {
	Prefix  string `json:"prefix"`
	Owner   string `json:"owner"`
	Verdict string `json:"verdict"`
	English string `json:"en"`
	Chinese string `json:"zh"`

	Behaviour     string `json:"behaviour,omitempty"`      // what the verdict rests on: a row of the table of behaviours
	EvidenceLevel string `json:"evidence_level,omitempty"` // how sure that is: observed, documented, inferred or assumed
	Date          string `json:"date,omitempty"`           // of the newest evidence
	Known         string `json:"evidence_en,omitempty"`    // level and date in words
	KnownZH       string `json:"evidence_zh,omitempty"`    // the same in Chinese
}

// Explain says what a scan would open and why. It records nothing.
func (c ScansService) Explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	var e Explanation
	raw, err := c.adminCall(ctx, call{method: http.MethodPost, path: "/scan/v1/explain", bearer: c.options.ScanKey, body: r}, &e)
	e.Raw = raw
	return e, err
}

// maxLine is the maximum length of one answer of a stream.
const maxLine = 64 << 10

// ResolveStream resolves scans one after another over one connection, and yields the answers in the
// order of the requests. Each answer has Raw; that of a bad request has only Raw, {"error": …}, and
// the stream goes on. An error of the whole stream comes last. It goes on for as long as there are
// requests: bound it with ctx.
func (c ScansService) ResolveStream(ctx context.Context, requests iter.Seq[ScanRequest]) iter.Seq2[Decision, error] {
	return func(yield func(Decision, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		lines, sink := io.Pipe()
		defer lines.Close() // ends the goroutine below at its next request
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
		const ndjson = "application/x-ndjson"
		const path = "/scan/v1/resolve"
		resp, err := c.open(ctx, request{method: http.MethodPost, path: path, bearer: c.options.ScanKey,
			contentType: ndjson, accept: ndjson, body: lines})
		if err != nil {
			yield(Decision{}, err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came is all there is to show
			yield(Decision{}, c.refused(http.MethodPost, path, answer{status: resp.StatusCode, header: resp.Header, body: body}))
			return
		}
		answers := bufio.NewScanner(resp.Body)
		answers.Buffer(nil, maxLine)
		var received int64
		for answers.Scan() {
			received++
			d := Decision{Raw: bytes.Clone(answers.Bytes())}
			if flaw := decode(d.Raw, &d, false); flaw != "" && !badLine(d.Raw) {
				yield(Decision{}, c.wrong(http.MethodPost, path, "%s", flaw))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
		err = answers.Err()
		if err == nil && (!finished.Load() || received < sent.Load()) {
			// The server waits for the next request for a limited time.
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			yield(Decision{}, &Unreachable{URL: c.baseOf(path), Err: fmt.Errorf("the answers broke off after %d: %w", received, err)})
		}
	}
}

// badLine reports whether an answer of a stream says that its request was bad.
func badLine(answer []byte) bool {
	var bad struct {
		Error string `json:"error"`
	}
	return json.Unmarshal(answer, &bad) == nil && bad.Error != ""
}
