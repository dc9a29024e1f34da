package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Problem is a refusal of the scan or the admin API (RFC 9457).
type Problem struct {
	Type   string         `json:"type,omitempty"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail"`
	Errors []ProblemError `json:"errors,omitempty"`

	// Where a thing changed meanwhile (see ChangedMeanwhile): how it is now, and its last changes.
	Current json.RawMessage `json:"current,omitempty"`
	Changes []ThingChange   `json:"changes,omitempty"`
}

// ProblemError is one fault of a request.
type ProblemError struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += "; " + strings.TrimSpace(e.Location+" "+e.Message)
	}
	return fmt.Sprintf("%d %s", p.Status, text)
}

// call is one call of the scan or the admin API.
type call struct {
	method, path string
	query        url.Values
	bearer       string
	body         any // nil = none
}

// ours makes a call of one of our own APIs and reads the answer into reply, a
// pointer to a struct (see decode).
func (c *transport) ours(ctx context.Context, k call, reply any) (json.RawMessage, error) {
	r := request{method: k.method, path: k.path, query: k.query, bearer: k.bearer, accept: "application/json, application/problem+json"}
	if k.body != nil {
		raw, err := encode(k.body)
		if err != nil {
			return nil, err
		}
		r.body, r.contentType = bytes.NewReader(raw), "application/json"
	}
	a, err := c.send(ctx, r, maxList)
	if err != nil {
		return nil, err
	}
	if err := c.readAnswer(k.method, k.path, a, reply); err != nil {
		return nil, err
	}
	return a.body, nil
}

// admin makes a call of the admin API; a path may carry a query.
func (c *transport) admin(ctx context.Context, method, path string, body, reply any) error {
	path, rawQuery, _ := strings.Cut(path, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return err
	}
	_, err = c.ours(ctx, call{method: method, path: "/admin/v1/" + path, query: query, bearer: c.options.AdminToken, body: body}, reply)
	return err
}

// with adds the query parameters that are not empty to a path.
func with(path string, query map[string]string) string {
	values := url.Values{}
	for name, value := range query {
		if value != "" {
			values.Set(name, value)
		}
	}
	return path + "?" + values.Encode()
}

// flagText is a flag as a query parameter, none where it is not set.
func flagText(is bool) string {
	if !is {
		return ""
	}
	return "true"
}

// limitText is a limit as a query parameter, none where the server may choose.
func limitText(limit int) string {
	if limit <= 0 {
		return ""
	}
	return strconv.Itoa(limit)
}
