package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// OperationRequest is a request for an operation that is known from the document /openapi.json and has no method in Client.
type OperationRequest struct {
	Method, Path string // Path is already escaped.
	Query        url.Values
	ContentType  string // of Body
	Body         io.Reader
}

// Do sends a request with the operator's token and returns the response, whose body the caller closes. An unsuccessful response is
// returned as a *Problem or a *WrongServer. Limit the duration of the request with ctx.
func (c *Client) Do(ctx context.Context, call OperationRequest) (*http.Response, error) {
	resp, err := c.open(ctx, request{method: call.Method, path: call.Path, query: call.Query, bearer: c.options.AdminToken,
		contentType: call.ContentType, body: call.Body})
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	// A read error is ignored, because the partial body is all that can be shown.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return nil, c.refused(call.Method, call.Path, answer{status: resp.StatusCode, header: resp.Header, body: body})
}
