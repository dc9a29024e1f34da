package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

// ordersMeta is the prefix of the named values that are orders of codes.
const ordersMeta = "order/"

// orders are kept as named values of the server, each by itself: the audit log then has each change of one.
func (s *Server) orders() *codes.Orders {
	return &codes.Orders{Press: s.domain.press, Change: s.changeOrder, Newest: func(ctx context.Context, appids []string, offset,
		limit int) (
		list []codes.Order, total int, err error) {
		below := []string{ordersMeta}
		if len(appids) > 0 {
			below = nil
		}
		for _, appid := range appids {
			below = append(below, ordersMeta+url.PathEscape(appid)+"/")
		}
		values, total, err := s.store.NewestMeta(ctx, below, "created_at", offset, limit)
		for _, value := range values {
			var one codes.Order
			if err := json.Unmarshal([]byte(value), &one); err != nil {
				return nil, 0, fmt.Errorf("reading an order of codes: %w", err)
			}
			list = append(list, one)
		}
		return list, total, err
	}}
}

// ordersPart completes, after the start, orders whose codes were being made when a node ended.
func (s *Server) ordersPart() component {
	return component{name: "orders", run: func(ctx context.Context) {
		if err := s.orders().CompleteInterrupted(ctx, s.domain.accounts.Get); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "interrupted orders of codes could not be completed", "error", err)
		}
	}}
}

func (s *Server) changeOrder(ctx context.Context, account, isv string, f func(codes.Order) (codes.Order, error)) (one codes.Order,
	err error) {
	name := ordersMeta + url.PathEscape(account) + "/" + url.PathEscape(isv)
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.Lock(ctx, name); err != nil {
			return err
		}
		was, err := s.store.Meta(ctx, name)
		if err != nil {
			return err
		}
		one = codes.Order{}
		if was != "" {
			if err := json.Unmarshal([]byte(was), &one); err != nil {
				return fmt.Errorf("reading an order of codes: %w", err)
			}
		}
		if one, err = f(one); err != nil {
			return err
		}
		now, err := json.Marshal(one)
		if err != nil || string(now) == was {
			return err
		}
		return s.store.PutMeta(ctx, name, string(now))
	})
	return one, err
}
