package server

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/qrjump/qrjump/internal/domain/replica"
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

// ImportAccounts imports an archive of accounts. Each later read of the audit log by the replica calls onRead first and returns its error.
func ImportAccounts(ctx context.Context, s *Server, archive []byte, passphrase string, onRead func() error) (int, error) {
	s.domain.current.History = interceptedLog{s.domain.current.History, onRead}
	return s.importAccounts(ctx, bytes.NewReader(archive), int64(len(archive)), passphrase)
}

type interceptedLog struct {
	replica.ChangeLog
	onRead func() error
}

func (l interceptedLog) ChangesFrom(ctx context.Context, from int64, limit int) ([]replica.Change, error) {
	if err := l.onRead(); err != nil {
		return nil, err
	}
	return l.ChangeLog.ChangesFrom(ctx, from, limit)
}
