package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// component is one of the things that a server is made of while it runs.
type component struct {
	name string
	// start makes the part ready; nil = it is. ctx is that of the server's start.
	start func(ctx context.Context) error
	// run is called after start, in a goroutine of its own, and runs until ctx ends; nil = nothing
	// runs.
	run func(ctx context.Context)
	// stop ends what start began, once run has returned; nil = nothing is left. It is called even
	// after a start that failed, and ends as much as was begun.
	stop func(ctx context.Context) error
}

const (
	// patience is the time that the end of a server waits for one part before it goes on without it, so that the others write down
	// their data.
	patience = 30 * time.Second
	// lastWrite bounds what a part still writes when it stops.
	lastWrite = DrainTimeout
)

// lifecycle starts parts in their order and ends them in reverse, each before the
// next: a part uses only what stands before it. The zero value has no parts.
type lifecycle struct {
	ending sync.Mutex
	begun  []*startedComponent // in the order of their starts
}

// startedComponent is a part whose start was called.
type startedComponent struct {
	component
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start starts parts. When one fails, or ctx ends, all that began are ended.
func (r *lifecycle) start(ctx context.Context, list []component) error {
	for _, p := range list {
		if err := r.begin(ctx, p); err != nil {
			return errors.Join(err, r.stop())
		}
	}
	return nil
}

func (r *lifecycle) begin(ctx context.Context, p component) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the start ended before the part %q: %w", p.name, err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &startedComponent{component: p, cancel: cancel}
	r.begun = append(r.begun, b)
	if p.start != nil {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	if p.run != nil {
		b.running.Go(func() { p.run(life) })
	}
	return nil
}

// stop ends every part that began, and returns by name what failed or did not end
// in time. A second call waits for the first and does nothing.
func (r *lifecycle) stop() error {
	r.ending.Lock()
	defer r.ending.Unlock()
	var errs []error
	for _, b := range slices.Backward(r.begun) {
		errs = append(errs, b.end())
	}
	r.begun = nil
	return errors.Join(errs...)
}

func (b *startedComponent) end() error {
	b.cancel()
	ended := make(chan error, 1)
	go func() {
		b.running.Wait()
		if b.stop == nil {
			ended <- nil
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lastWrite)
		defer cancel()
		ended <- b.stop(ctx)
	}()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("ending the part %q: %w", b.name, err)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the part %q did not end within %s", b.name, patience)
	}
}
