package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Packages of overlapping ranges are wished for on two nodes at once, by two printers: each code is with one of them at most, and who was
// refused was told why. Recalls of one package at once freeze once.
func TestPrintPackages_OverlappingRangesOnTwoNodes(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		b, err := p[0].Apply(ctx, call, codes.Application{ISV: "order", Count: 10_000})
		require.NoError(t, err)
		made := make([]codes.PrintPackage, 40)
		errs := race(len(made), func(i int) (err error) {
			from := int64(i/2) * 50
			made[i], err = p[i%2].MakePackage(ctx, codes.PackageRequest{Batch: b.ID, Codes: codes.Range{From: from, To: from + 74},
				Printer: fmt.Sprint("printer ", i%2), Recipients: []string{"age1"}, Formats: []string{"csv"}, Proofs: int64(i % 3),
				Reason: "race"})
			return err
		})
		var stored []codes.PrintPackage
		view(t, nodes[1], func(ctx context.Context, tx *Tx) (err error) {
			stored, err = tx.codes().Packages(ctx, codes.PackageQuery{Account: "svc", Batch: b.ID, Limit: 100})
			return err
		})
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			none, err := tx.codes().Packages(ctx, codes.PackageQuery{Batch: 1 << 40, Limit: 100}) // more than any application has
			want(t, "packages of no application", len(none), 0)
			return err
		})
		with, granted := map[int64]string{}, 0
		for i, err := range errs {
			if err == nil {
				granted++
				if !slices.ContainsFunc(stored, func(s codes.PrintPackage) bool { return s.ID == made[i].ID && s.Codes == made[i].Codes }) {
					t.Errorf("package %d was acknowledged and is not stored", made[i].ID)
				}
			} else if _, is := errors.AsType[codes.Conflict](err); !is {
				t.Errorf("%d: %v", i, err)
			}
		}
		want(t, "packages stored", len(stored), granted)
		assert.True(t, granted != 0, "nobody got any code")
		for _, s := range stored {
			for index := s.Codes.From; index <= s.Codes.To; index++ {
				other, taken := with[index]
				require.True(t, !taken || other == s.Printer, "code %d is with %s and %s", index, other, s.Printer)
				with[index] = s.Printer
			}
			if s.Proofs != 0 {
				proofs, ok := p[0].Memory.Batch(s.Proofs)
				assert.True(t, !ok || proofs.IsProof, "application %d has proof codes and does not say so", s.Proofs)
			}
		}

		drawn := codes.PackageRequest{Batch: b.ID, Codes: codes.Range{From: 9_000, To: 9_099}, Printer: "printer 0",
			Formats: []string{"csv", "sheet"}, Drawing: `{"kind":"qr","lines":["{serial}"]}`}
		labels, err := p[0].MakePackage(ctx, drawn)
		require.NoError(t, err)
		labels, err = p[1].PrintPackage(ctx, labels.ID)
		require.NoError(t, err)
		want(t, "how labels are drawn", labels.Drawing, drawn.Drawing)
		want(t, "its formats", fmt.Sprint(labels.Formats), "[csv sheet]")

		done := 0
		for _, err := range race(6, func(i int) error {
			_, err := p[i%2].RecallPackage(ctx, stored[0].ID, "")
			return err
		}) {
			if err == nil {
				done++
			} else if _, is := errors.AsType[codes.Conflict](err); !is {
				t.Error(err)
			}
		}
		want(t, "recalls that were done", done, 1)
		want(t, "freezes", number(t, nodes[0], `SELECT COUNT(*) FROM code_events WHERE action = 'freeze'`), 1)
		want(t, "frozen on the other node", p[1].Memory.State(b.ID, stored[0].Codes.From, at).Frozen, true)
	})
}
