package server

import (
	"context"
	"io"
	"net/http"
)

// StartAround is Start, but calls around instead of the start of each component. around may call start.
func StartAround(ctx context.Context, c Config, logs io.Writer, testHooks TestHooks,
	around func(ctx context.Context, part string, start func(context.Context) error) error) (*Server, error) {
	s := newServer(c, logs, testHooks)
	list := s.order()
	for i, p := range list {
		list[i].start = func(ctx context.Context) error {
			return around(ctx, p.name, func(ctx context.Context) error {
				if p.start == nil {
					return nil
				}
				return p.start(ctx)
			})
		}
	}
	return s, s.parts.start(ctx, list)
}

// Parts returns the names of the server's components in start order.
func Parts() (names []string) {
	for _, p := range new(Server).order() {
		names = append(names, p.name)
	}
	return names
}

// WireHandler returns the handler of the wire listener.
func WireHandler(s *Server) http.Handler { return s.serving.servers[0].Handler }

// PutMeta stores a named value, such as the state of an interrupted call.
func PutMeta(ctx context.Context, s *Server, name, value string) error {
	return s.store.PutMeta(ctx, name, value)
}

// Meta returns a named value.
func Meta(ctx context.Context, s *Server, name string) (string, error) {
	return s.store.Meta(ctx, name)
}
