package safehttp

import (
	"context"
	"errors"
	"net/http"
)

// Check reports, without connecting, whether Do would accept a URL: nil, or the [*Error] of Do. A name that does not resolve at
// present is not an error, because it may resolve later.
func (c *Client) Check(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	t := trip{client: c}
	to, err := t.aim(Request{Method: http.MethodPost, URL: url})
	if err != nil {
		return err
	}
	_, err = t.resolve(ctx, to)
	if e, ok := errors.AsType[*Error](err); ok && e.Reason != AddressRefused {
		return nil
	}
	return err
}
