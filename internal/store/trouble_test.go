package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Issue 12: two balancers that ask at once hear the same, and not what was true
// before; one that asks while another gives up looks by itself.
func TestProbesShareOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr trouble
		held := errors.New("held")
		for name, c := range map[string]struct {
			result error
			gone   bool
			looks  int
		}{"the lock is free": {nil, false, 1}, "it is held": {held, false, 1}, "the first gave up": {held, true, 2}} {
			looks, free := 0, make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			go func() {
				first <- tr.tried(ctx, func() error {
					looks++
					<-free
					return c.result
				})
			}()
			synctest.Wait()
			go func() {
				second <- tr.tried(t.Context(), func() error {
					looks++
					return nil
				})
			}()
			synctest.Wait()
			if len(second) > 0 {
				t.Errorf("%s: the second has an answer before the look has one: %v", name, <-second)
			}
			if c.gone {
				cancel()
			}
			close(free)
			want := c.result
			if c.gone {
				want = nil
			}
			if one, two := <-first, <-second; one != c.result || two != want || looks != c.looks {
				t.Errorf("%s: %v, %v, %d looks", name, one, two, looks)
			}
			cancel()
		}
	})
}
