package safehttp

import (
	"context"
	"errors"
	"net/http"
)

// Check says whether Do would send something to a URL, without connecting:
// nil, or the [*Error] of Do. A name that has no address at the moment is no
// error: it may have one tomorrow.
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
