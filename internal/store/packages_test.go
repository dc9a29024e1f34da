package store

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPrintPackages_OverlappingRangesOnTwoNodes makes packages of overlapping ranges for two printers, on two nodes concurrently. A code is
// in packages of one printer only, and the other calls get a conflict. Concurrent recalls of a package freeze its codes once.
func TestPrintPackages_OverlappingRangesOnTwoNodes(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
		b := require.Value(p[0].Apply(ctx, call, codes.Application{ISV: "order", Count: 10_000}))(t)
		packages := make([]codes.PrintPackage, 40)
		errs := race(len(packages), func(i int) (err error) {
			from := int64(i/2) * 50
			packages[i], err = p[i%2].MakePackage(ctx, codes.PackageRequest{Batch: b.ID, Codes: codes.Range{From: from, To: from + 74},
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
			none, err := tx.codes().Packages(ctx, codes.PackageQuery{Batch: 1 << 40, Limit: 100})
			check(t, "packages of an unknown batch", len(none), 0)
			return err
		})
		printers, granted := map[int64]string{}, 0
		for i, err := range errs {
			if err == nil {
				granted++
				if !slices.ContainsFunc(stored,
					func(s codes.PrintPackage) bool { return s.ID == packages[i].ID && s.Codes == packages[i].Codes }) {
					t.Errorf("package %d is acknowledged and not stored", packages[i].ID)
				}
			} else if !isConflict(err) {
				t.Errorf("MakePackage() %d = %v, want a conflict", i, err)
			}
		}
		check(t, "packages stored", len(stored), granted)
		assert.True(t, granted != 0, "all calls fail")
		for _, s := range stored {
			for index := s.Codes.From; index <= s.Codes.To; index++ {
				printer, assigned := printers[index]
				require.True(t, !assigned || printer == s.Printer, "code %d is in packages of %s and %s", index, printer, s.Printer)
				printers[index] = s.Printer
			}
			if s.Proofs != 0 {
				proofs, ok := p[0].Memory.Batch(s.Proofs)
				assert.True(t, !ok || proofs.IsProof, "IsProof of batch %d = false, want true", s.Proofs)
			}
		}

		drawn := codes.PackageRequest{Batch: b.ID, Codes: codes.Range{From: 9_000, To: 9_099}, Printer: "printer 0",
			Formats: []string{"csv", "sheet"}, Drawing: `{"kind":"qr","lines":["{serial}"]}`}
		labels := require.Value(p[0].MakePackage(ctx, drawn))(t)
		labels = require.Value(p[1].PrintPackage(ctx, labels.ID))(t)
		check(t, "drawing", labels.Drawing, drawn.Drawing)
		check(t, "formats", fmt.Sprint(labels.Formats), "[csv sheet]")

		done := 0
		for _, err := range race(6, func(i int) error {
			_, err := p[i%2].RecallPackage(ctx, stored[0].ID, "")
			return err
		}) {
			if err == nil {
				done++
			} else if !isConflict(err) {
				t.Errorf("RecallPackage() = %v, want a conflict", err)
			}
		}
		check(t, "successful recalls", done, 1)
		check(t, "freezes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM code_events WHERE action = 'freeze'`), 1)
		check(t, "frozen on the other node", p[1].Memory.State(b.ID, stored[0].Codes.From, t0).Frozen, true)
	})
}
