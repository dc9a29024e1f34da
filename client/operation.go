package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// OperationRequest is a request for an operation that a program knows by its document, /openapi.json, and not by a method of Client.
type OperationRequest struct {
	Method, Path string // the path is escaped
	Query        url.Values
	ContentType  string // of Body
	Body         io.Reader
}

// Do sends a call with the operator's token and returns its answer, whose body the caller closes. An answer without success is
// a *Problem or a *WrongServer. Bound its time with ctx.
func (c *Client) Do(ctx context.Context, call OperationRequest) (*http.Response, error) {
	resp, err := c.open(ctx, request{method: call.Method, path: call.Path, query: call.Query, bearer: c.options.AdminToken,
		contentType: call.ContentType, body: call.Body})
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came is all there is to show
	return nil, c.refused(call.Method, call.Path, answer{status: resp.StatusCode, header: resp.Header, body: body})
}
