package store

import (
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSerialNumber_UniqueUnderConcurrency binds the same serial numbers to different codes, on two nodes concurrently. Each number belongs
// to one code.
func TestSerialNumber_UniqueUnderConcurrency(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		b := require.Value(p[0].Apply(ctx, call, codes.Application{ISV: "order", Count: 10_000}))(t)
		const count = 300 // more than a statement has
		bound := int64(0)
		for i, err := range race(6, func(i int) error {
			var list []codes.Serial
			for n := range int64(count) {
				list = append(list, codes.Serial{Index: int64(i)*count + n, Serial: fmt.Sprint("bottle ", n)})
			}
			_, err := p[i%2].BindSerials(ctx, b.ID, list, false)
			return err
		}) {
			if err == nil {
				bound += count
			} else if !isConflict(err) {
				t.Errorf("BindSerials() %d = %v, want a conflict", i, err)
			}
		}
		check(t, "bound serial numbers", bound, count)
		check(t, "rows", queryInt(t, nodes[0], `SELECT COUNT(*) FROM code_serials`), count)
		numbered, err := p[1].SearchSerials(ctx, []int64{b.ID}, "bottle 299", 1)
		require.True(t, err == nil && len(numbered) == 1, "SearchSerials() = %v, %v, want one", numbered, err)
		index := numbered[0].Index
		found := require.Value(p[0].Serials(ctx, b.ID, index, index+1))(t)
		check(t, "serial numbers", found, map[int64]string{index: "bottle 299"})
	})
}
