package server

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/iam"
)

// sharedMeta is the prefix of the keys under which Store.PutMeta stores shared charts.
const sharedMeta = "shared/"

func (s *Server) sharedCharts() *iam.SharedCharts {
	return &iam.SharedCharts{Service: s.domain.people,
		Get: func(ctx context.Context, id string) (string, error) { return s.store.Meta(ctx, sharedMeta+id) },
		Put: func(ctx context.Context, id, value string) error { return s.store.PutMeta(ctx, sharedMeta+id, value) },
		Newest: func(ctx context.Context, limit int) ([]string, error) {
			values, _, err := s.store.NewestMeta(ctx, []string{sharedMeta}, "created_at", 0, limit)
			return values, err
		}}
}
