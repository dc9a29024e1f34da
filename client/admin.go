package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Problem is an error response of the scan API or the admin API (RFC 9457).
type Problem struct {
	Type   string         `json:"type,omitempty"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail"`
	Errors []ProblemError `json:"errors,omitempty"`

	// If an object changed since the caller read it (see PreconditionFailed), Current is its current state and Changes lists its
	// latest changes.
	Current json.RawMessage `json:"current,omitempty"`
	Changes []ObjectChange  `json:"changes,omitempty"`
}

// ProblemError is one error in a request.
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
		separator := " "
		if strings.HasPrefix(e.Location, "line ") { // of a file
			separator = " cannot be loaded: "
		}
		text += "; " + strings.TrimSpace(e.Location+separator+e.Message)
	}
	return fmt.Sprintf("%d %s", p.Status, text)
}

// adminCall makes a call of the scan API or the admin API and decodes the response into reply, a pointer to a struct (see decode). A nil
// body is not sent.
func (c *transport) adminCall(ctx context.Context, r request, body, reply any) (json.RawMessage, error) {
	if body != nil {
		raw, err := encode(body)
		if err != nil {
			return nil, err
		}
		r.body, r.contentType = bytes.NewReader(raw), "application/json"
	}
	return c.sendAdmin(ctx, r, reply)
}

// sendAdmin is like adminCall for a request that already has its body.
func (c *transport) sendAdmin(ctx context.Context, r request, reply any) (json.RawMessage, error) {
	r.accept = "application/json, application/problem+json"
	a, err := c.send(ctx, r, maxList)
	if err != nil {
		return nil, err
	}
	if err := c.readAnswer(r.method, r.path, a, reply); err != nil {
		return nil, err
	}
	return a.body, nil
}
