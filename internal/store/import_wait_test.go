package store

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestImportRules_MeasureLockWaits logs how long changes of other owners, of the same origins and of the same owner wait while IMPORT_RULES
// rules are imported. With IMPORT_EDITS the import changes existing rules.
func TestImportRules_MeasureLockWaits(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("IMPORT_RULES"))
	if n == 0 {
		t.Skip("IMPORT_RULES says how many")
	}
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		b := newRuleServices(nodes, nil)
		wxa := addMiniProgram(t, nodes[0], "wxa")
		addMiniProgram(t, nodes[0], "wxb")
		wxc := addMiniProgram(t, nodes[0], "wxc")
		wxd := addMiniProgram(t, nodes[0], "wxd")
		plan := newPlan(n, nil)
		if os.Getenv("IMPORT_EDITS") != "" {
			require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), plan, false)))
			plan = newPlan(n, func(p *rules.Planned) { p.Draft.Path = "another" })
		}
		ctx, end := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		var mu sync.Mutex
		waited := map[string][]time.Duration{}
		rejected := map[string]int{}
		for name, change := range map[string]func(ctx context.Context, i int) error{
			"another owner, the other node": func(ctx context.Context, i int) error {
				return addRule(ctx, b[1], wxc, "r", fmt.Sprintf("https://elsewhere.example/%d/", i), false)
			},
			"another owner, this node": func(ctx context.Context, i int) error {
				return addRule(ctx, b[0], wxd, "r", fmt.Sprintf("https://there.example/%d/", i), false)
			},
			"another owner, the same origin": func(ctx context.Context, i int) error {
				return addRule(ctx, b[1], wxc, "r", fmt.Sprintf("https://h%d.example/x/%d/", i%100, i), false)
			},
			"the same owner": func(ctx context.Context, i int) error {
				return addRule(ctx, b[1], wxa, "r", fmt.Sprintf("https://own.example/%d/", i), false)
			},
		} {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					began := time.Now()
					bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
					err := change(bounded, i)
					stop()
					mu.Lock()
					waited[name] = append(waited[name], time.Since(began))
					if err != nil {
						if rejected[name]++; rejected[name] == 1 {
							t.Logf("%s: %v", name, err)
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
		for name, durations := range waited {
			middle := median(durations) // sorts them
			t.Logf("%s: %d changes, median %s, longest %s, %d rejected", name, len(durations), middle.Round(time.Millisecond),
				durations[len(durations)-1].Round(time.Millisecond), rejected[name])
		}
	})
}
