package safehttp

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// exchange sends the request and reads the response on its own connection. exchange implements HTTP/1.1 without http.Transport,
// because retries, connection pools, proxies and protocol upgrades are unwanted here. An error has the reason SendFailed,
// or one of the reasons for a response that cannot be read or is not accepted.
func (t *trip) exchange(ctx context.Context, conn net.Conn, to target, req Request) (Answer, error) {
	out, err := http.NewRequestWithContext(ctx, req.Method, to.url.String(), bytes.NewReader(req.Body))
	if err != nil {
		return Answer{}, t.lose(ctx, "send", SendFailed, err)
	}
	out.Header = t.client.header(ctx, req)
	out.Close = true
	if err := out.Write(conn); err != nil {
		return Answer{}, t.lose(ctx, "send", SendFailed, err)
	}
	t.pass("send", "%s with a body of %d bytes", out.Method, len(req.Body))

	bounded := &io.LimitedReader{R: conn, N: maxHeader}
	resp, err := readAnswer(bufio.NewReader(bounded), out)
	switch {
	case err != nil && bounded.N <= 0:
		return Answer{}, t.refuse("answer", HeaderTooLong, "header longer than %d bytes", maxHeader)
	case err != nil:
		return Answer{}, t.lose(ctx, "answer", ReadFailed, err)
	}
	bounded.N = math.MaxInt64 // the limit for the header ends here; the method body limits the response body

	if err := t.checkHead(resp); err != nil {
		return Answer{Status: resp.StatusCode}, err
	}
	body, err := t.body(ctx, resp, req)
	if err != nil {
		return Answer{Status: resp.StatusCode}, err
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// header returns the request headers, except Host and Content-Length.
func (c *Client) header(ctx context.Context, req Request) http.Header {
	h := make(http.Header)
	if header := tracing.Header(ctx); header != "" {
		h.Set("Traceparent", header)
	}
	h.Set("Accept", "*/*")
	h.Set("User-Agent", cmp.Or(c.UserAgent, defaultUserAgent))
	for name, values := range req.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	for _, local := range []string{"Connection", "Expect", "Keep-Alive", "Te", "Upgrade"} {
		h.Del(local)
	}
	h.Set("Accept-Encoding", "identity")
	return h
}

// readAnswer reads the header of the final response, and skips interim (1xx) responses.
func readAnswer(r *bufio.Reader, out *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, out)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("the connection was closed before the end of the header")
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("status 101: the server switched protocols without a request")
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
}

// checkHead decides by status and header whether the body should be read. The reason of an error is Redirected or Encoded.
func (t *trip) checkHead(resp *http.Response) error {
	t.pass("answer", "status %d", resp.StatusCode)
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		// Contract: rules §2.7, a redirect is a failure, including from http to https.
		to := "nowhere"
		if u, err := resp.Location(); err == nil {
			to = u.Scheme + "://" + u.Host
		}
		return t.refuse("answer", Redirected, "status %d sends us to %s; redirects are not followed", resp.StatusCode, to)
	}
	for _, encoding := range resp.Header.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return t.refuse("answer", Encoded, "Content-Encoding %q, identity was asked for", encoding)
		}
	}
	return nil
}

// body reads the response body, at most one byte beyond the limit. body returns an error with the reason BodyTooLong or ReadFailed.
//
// The body is never closed, because closing would first read an endless body to its end. The connection is closed at the end of Do.
func (t *trip) body(ctx context.Context, resp *http.Response, req Request) ([]byte, error) {
	limit := int64(defaultMaxBody)
	if req.MaxBody > 0 {
		limit = min(int64(req.MaxBody), math.MaxInt64-1)
	}
	if resp.ContentLength > limit && req.Method != http.MethodHead {
		return nil, t.refuse("body", BodyTooLong, "%d bytes announced, at most %d are read", resp.ContentLength, limit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, t.refuse("body", BodyTooLong, "longer than %d bytes", limit)
	case err != nil:
		return nil, t.lose(ctx, "body", ReadFailed, err)
	}
	t.pass("body", "%d bytes", len(body))
	return body, nil
}
