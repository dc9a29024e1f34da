package labels

import (
	"iter"
	"runtime"
	"sync"
)

// inOrder calls the function do for each value of in, concurrently with the given number of workers (0 = one per processor). inOrder calls
// the function take with each result, in the order of the values. Only a few values are in memory; the first error ends inOrder.
func inOrder[In, Out any](workers int, in iter.Seq2[In, error], do func(In) (Out, error), take func(Out) error) error {
	type job struct {
		in   In
		out  Out
		err  error
		done chan struct{}
	}
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	queue, work, stop := make(chan *job, 2*workers), make(chan *job), make(chan struct{})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for j := range work {
				j.out, j.err = do(j.in)
				close(j.done)
			}
		})
	}
	all.Go(func() {
		defer close(queue)
		defer close(work)
		for v, err := range in {
			j := &job{in: v, err: err, done: make(chan struct{})}
			to := work
			if err != nil {
				close(j.done)
				to = nil
			}
			select {
			case queue <- j:
			case <-stop:
				return
			}
			if to == nil {
				return
			}
			select {
			case to <- j:
			case <-stop:
				return
			}
		}
	})
	defer all.Wait()
	defer close(stop)
	for j := range queue {
		<-j.done
		if j.err != nil {
			return j.err
		}
		if err := take(j.out); err != nil {
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
