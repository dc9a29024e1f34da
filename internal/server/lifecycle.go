package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// component is a part of a server with its own start, run and stop functions.
type component struct {
	name string
	// start prepares the component; nil = no preparation; ctx is the context of the server's start.
	start func(ctx context.Context) error
	// run runs in its own goroutine after start until ctx ends; nil = no goroutine.
	run func(ctx context.Context)
	// stop releases the resources of start after run has returned; nil = nothing to release. stop is called even if start failed, and then
	// releases the resources that start had opened before the failure.
	stop func(ctx context.Context) error
}

const (
	// patience is the time that the shutdown waits for the end of one component. After this time, the shutdown continues with the next
	// component, so that the other components can save their data.
	patience = 30 * time.Second
	// lastWrite is the timeout of the context of a component's stop function.
	lastWrite = DrainTimeout
)

// lifecycle starts components in order and stops them in reverse order, because a component may need the components before it. The zero
// value has no components.
type lifecycle struct {
	ending  sync.Mutex
	started []*startedComponent // in start order
}

// startedComponent is a component whose start was called.
type startedComponent struct {
	component
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start starts the components in list. If a component fails or ctx ends, all started components are stopped.
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
		return fmt.Errorf("the start was cancelled before the component %q: %w", p.name, err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &startedComponent{component: p, cancel: cancel}
	r.started = append(r.started, b)
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

// stop stops all started components; the error names the components that failed or did not end in time. If stop is called twice at the same
// time, the second call waits for the first and does nothing.
func (r *lifecycle) stop() error {
	r.ending.Lock()
	defer r.ending.Unlock()
	var errs []error
	for _, b := range slices.Backward(r.started) {
		errs = append(errs, b.end())
	}
	r.started = nil
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
			return fmt.Errorf("stopping the component %q: %w", b.name, err)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the component %q did not stop within %s", b.name, patience)
	}
}
