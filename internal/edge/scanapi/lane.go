package scanapi

import (
	"context"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/fastpath"
)

// Lane returns a fast-path listener for resolve requests; patience limits how long a request may take to arrive.
func (a *API) Lane(patience time.Duration) *fastpath.Listener {
	l := &fastpath.Listener{Path: resolvePath, MaxBody: MaxRequest, Streams: "ndjson", ReadTimeout: min(patience,
		a.BodyTimeout), Log: a.Log}
	lookup := func(namespace string) string {
		if a.Key == nil {
			return accounts.DefaultNamespace
		}
		return namespace
	}
	l.Begin = func(ctx context.Context, namespace string, body []byte) fastpath.Response {
		return a.begin(ctx, lookup(namespace), body)
	}
	l.Try = func(ctx context.Context, namespace string, body []byte) fastpath.Response {
		if s := a.try(ctx, lookup(namespace), body); s != nil {
			return s
		}
		return nil
	}
	if a.Key == nil {
		return l
	}
	l.Key = func(ctx context.Context, text string) (namespace string, ok bool) {
		key, err := a.Key(ctx, text)
		return key.Namespace, err == nil
	}
	return l
}

// Draft implements fastpath.Response: it returns the decision before the scan is durable.
func (s *scanned) Draft(to []byte) (doc []byte, kind string, ok bool) {
	if s.err != nil || s.group == nil || s.soon {
		return to, "", false
	}
	return s.append(to), jsonType, true
}

// OnDurable implements fastpath.Response.
func (s *scanned) OnDurable(f func(error)) bool { return s.group.OnDurable(f) }

// Sent implements fastpath.Response.
func (s *scanned) Sent() {
	s.api.observe(s)
	s.release()
}

// Wait implements fastpath.Response.
func (s *scanned) Wait(ctx context.Context, to []byte) (doc []byte, kind string, status int) {
	a := s.api
	doc, err := a.finish(ctx, s, to)
	if err != nil {
		p := a.problemOf(err)
		return append(to, p.document()...), problemType, p.status
	}
	return doc, jsonType, http.StatusOK
}
