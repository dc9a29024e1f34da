package store

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestImportRules_MeasureLockWaits says how long changes of other owners, of the same origins and of the same owner waited while
// IMPORT_RULES rules were imported; with IMPORT_EDITS they were there before, and become others.
func TestImportRules_MeasureLockWaits(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("IMPORT_RULES"))
	if n == 0 {
		t.Skip("IMPORT_RULES says how many")
	}
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := books(nodes, nil)
		own := miniProgram(t, nodes[0], "wxa")
		miniProgram(t, nodes[0], "wxb")
		other := miniProgram(t, nodes[0], "wxc")
		third := miniProgram(t, nodes[0], "wxd")
		plan := planOf(n, nil)
		if os.Getenv("IMPORT_EDITS") != "" {
			require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), plan, false)))
			plan = planOf(n, func(p *rules.Planned) { p.Draft.Path = "another" })
		}
		ctx, end := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		var mu sync.Mutex
		waited := map[string][]time.Duration{}
		refused := map[string]int{}
		for what, one := range map[string]func(ctx context.Context, i int) error{
			"another owner, the other node": func(ctx context.Context, i int) error {
				return add(ctx, b[1], other, "r", fmt.Sprintf("https://elsewhere.example/%d/", i), false)
			},
			"another owner, this node": func(ctx context.Context, i int) error {
				return add(ctx, b[0], third, "r", fmt.Sprintf("https://there.example/%d/", i), false)
			},
			"another owner, the same origin": func(ctx context.Context, i int) error {
				return add(ctx, b[1], other, "r", fmt.Sprintf("https://h%d.example/x/%d/", i%100, i), false)
			},
			"the same owner": func(ctx context.Context, i int) error {
				return add(ctx, b[1], own, "r", fmt.Sprintf("https://own.example/%d/", i), false)
			},
		} {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					began := time.Now()
					bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
					err := one(bounded, i)
					stop()
					mu.Lock()
					waited[what] = append(waited[what], time.Since(began))
					if err != nil {
						if refused[what]++; refused[what] == 1 {
							t.Logf("%s: %v", what, err)
						}
					}
					mu.Unlock()
					time.Sleep(20 * time.Millisecond) // between two changes, as callers leave it
				}
			})
		}
		began := time.Now()
		done, err := b[0].Import(context.Background(), plan, false)
		took := time.Since(began)
		end()
		writers.Wait()
		t.Logf("%+v in %s: %v", done, took.Round(time.Millisecond), err)
		for what, all := range waited {
			slices.Sort(all)
			t.Logf("%s: %d changes, median %s, longest %s, %d refused", what, len(all), all[len(all)/2].Round(time.Millisecond),
				all[len(all)-1].Round(time.Millisecond), refused[what])
		}
	})
}
