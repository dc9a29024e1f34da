package scanapi

import (
	"context"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/fastpath"
)

// FastPath returns a fast-path listener for resolve requests; readTimeout limits how long a request may take to arrive.
func (a *API) FastPath(readTimeout time.Duration) *fastpath.Listener {
	l := &fastpath.Listener{Path: resolvePath, MaxBody: MaxRequest, Streams: "ndjson", ReadTimeout: min(readTimeout,
		a.BodyTimeout), Log: a.Log}
	namespaceOf := func(namespace string) string {
		if a.Key == nil {
			return accounts.DefaultNamespace
		}
		return namespace
	}
	l.Begin = func(ctx context.Context, namespace string, body []byte) fastpath.Response {
		return a.begin(ctx, namespaceOf(namespace), body)
	}
	l.Try = func(ctx context.Context, namespace string, body []byte) fastpath.Response {
		if s := a.processNonBlocking(ctx, namespaceOf(namespace), body); s != nil {
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

// Draft implements fastpath.Response: Draft appends the decision before the scan is durable.
func (s *pendingScan) Draft(dst []byte) (doc []byte, contentType string, ok bool) {
	if s.err != nil || s.group == nil || s.respondEarly {
		return dst, "", false
	}
	return s.append(dst), jsonType, true
}

// OnDurable implements fastpath.Response.
func (s *pendingScan) OnDurable(f func(error)) bool { return s.group.OnDurable(f) }

// Sent implements fastpath.Response.
func (s *pendingScan) Sent() {
	s.api.observe(s)
	s.release()
}

// Wait implements fastpath.Response.
func (s *pendingScan) Wait(ctx context.Context, dst []byte) (doc []byte, contentType string, status int) {
	a := s.api
	doc, err := a.finish(ctx, s, dst)
	if err != nil {
		p := a.asProblem(err)
		return append(dst, p.document()...), problemType, p.status
	}
	return doc, jsonType, http.StatusOK
}
