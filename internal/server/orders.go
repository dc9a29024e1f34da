package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/store"
)

// ordersMeta is the prefix of the keys under which Store.PutMeta stores orders for codes.
const ordersMeta = "order/"

// orders returns the service for code orders. Each order has its own key in the store, so the audit log has an entry for each change.
func (s *Server) orders() *codes.Orders {
	return &codes.Orders{Codes: s.domain.codes, Change: s.changeOrder, Newest: func(ctx context.Context, appids []string, offset,
		limit int) (
		list []codes.Order, total int, err error) {
		names := []string{ordersMeta}
		if len(appids) > 0 {
			names = nil
		}
		for _, appid := range appids {
			names = append(names, ordersMeta+url.PathEscape(appid)+"/")
		}
		values, total, err := s.store.NewestMeta(ctx, names, "created_at", offset, limit)
		for _, value := range values {
			var order codes.Order
			if err := json.Unmarshal([]byte(value), &order); err != nil {
				return nil, 0, fmt.Errorf("reading an order of codes: %w", err)
			}
			list = append(list, order)
		}
		return list, total, err
	}}
}

// ordersComponent returns the component that, after a start, completes the orders whose production was interrupted when a node ended.
func (s *Server) ordersComponent() component {
	return component{name: "orders", run: func(ctx context.Context) {
		if err := s.orders().CompleteInterrupted(ctx, s.domain.accounts.Get); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "interrupted code orders not completed", "error", err)
		}
	}}
}

func (s *Server) changeOrder(ctx context.Context, account, isv string, f func(codes.Order) (codes.Order, error)) (order codes.Order,
	err error) {
	name := ordersMeta + url.PathEscape(account) + "/" + url.PathEscape(isv)
	err = editMeta(ctx, s.store, name, func(stored string) (string, error) {
		order = codes.Order{}
		if stored != "" {
			if err := json.Unmarshal([]byte(stored), &order); err != nil {
				return "", fmt.Errorf("reading an order of codes: %w", err)
			}
		}
		if order, err = f(order); err != nil {
			return "", err
		}
		b, err := json.Marshal(order)
		return string(b), err
	})
	return order, err
}

// editMeta stores the value that f returns for the stored value of a name, unless they are equal. No other node stores a value of this name
// meanwhile; f may run twice.
func editMeta(ctx context.Context, s *store.Store, name string, f func(stored string) (string, error)) error {
	return s.InTx(ctx, func(tx *store.Store) error {
		if err := tx.Lock(ctx, name); err != nil {
			return err
		}
		stored, err := tx.Meta(ctx, name)
		if err != nil {
			return err
		}
		value, err := f(stored)
		if err != nil || value == stored {
			return err
		}
		return tx.PutMeta(ctx, name, value)
	})
}
