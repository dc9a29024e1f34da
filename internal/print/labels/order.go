package labels

import (
	"errors"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// inOrder calls the function do for each value of in, concurrently with the given number of workers (0 = one per processor). inOrder calls
// the function take with each result, in the order of the values. Only a few values are in memory; the first error ends inOrder.
func inOrder[In, Out any](workers int, in iter.Seq2[In, error], do func(In) (Out, error), take func(Out) error) error {
	type result struct {
		out Out
		err error
	}
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	queue, stop := make(chan chan result, 2*workers), make(chan struct{})
	var reading, working errgroup.Group // no function of them returns an error: errors are results
	working.SetLimit(workers)
	reading.Go(func() error {
		defer close(queue)
		for v, err := range in {
			done := make(chan result, 1)
			select {
			case queue <- done:
			case <-stop:
				return nil
			}
			if err != nil {
				done <- result{err: err}
				return nil
			}
			working.Go(func() error {
				out, err := do(v)
				done <- result{out, err}
				return nil
			})
		}
		return nil
	})
	defer func() {
		close(stop)
		_ = errors.Join(reading.Wait(), working.Wait())
	}()
	for done := range queue {
		r := <-done
		if r.err != nil {
			return r.err
		}
		if err := take(r.out); err != nil {
			return err
		}
	}
	return nil
}

// groups splits rows into groups; first is the size of the first group, size the size of every further group; the last may be smaller.
func groups(rows iter.Seq2[Row, error], first, size int) iter.Seq2[[]Row, error] {
	return func(yield func([]Row, error) bool) {
		var group []Row
		for r, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			if group = append(group, r); len(group) == first {
				if !yield(group, nil) {
					return
				}
				group, first = nil, size
			}
		}
		if len(group) > 0 {
			yield(group, nil)
		}
	}
}
