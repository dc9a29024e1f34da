package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Many bind the same serial numbers to different codes at once, on two nodes: each number is that of one code, and each code has one.
func TestSerialNumber_UniqueUnderConcurrency(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		b, err := p[0].Apply(ctx, call, codes.Application{ISV: "order", Count: 10_000})
		require.NoError(t, err)
		const many = 300 // more than one statement has
		bound := int64(0)
		for i, err := range race(6, func(i int) error {
			var list []codes.Serial
			for n := range int64(many) {
				list = append(list, codes.Serial{Index: int64(i)*many + n, Serial: fmt.Sprint("bottle ", n)})
			}
			_, err := p[i%2].BindSerials(ctx, b.ID, list, false)
			return err
		}) {
			if err == nil {
				bound += many
			} else if _, is := errors.AsType[codes.Conflict](err); !is {
				t.Errorf("%d: %v", i, err)
			}
		}
		want(t, "bound", bound, many)
		want(t, "rows", number(t, nodes[0], `SELECT COUNT(*) FROM code_serials`), many)
		numbered, err := p[1].SearchSerials(ctx, []int64{b.ID}, "bottle 299", 1)
		require.True(t, err == nil && len(numbered) == 1, "%v %v", numbered, err)
		index := numbered[0].Index
		found, err := p[0].Serials(ctx, b.ID, index, index+1)
		require.NoError(t, err)
		want(t, "number", found, map[int64]string{index: "bottle 299"})
	})
}
