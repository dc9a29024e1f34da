//go:build !linux

package lane

// loop is for systems with epoll: elsewhere each connection keeps its goroutine.
type loop struct{}

func (*Lane) startLoops() {}

func (*loop) stop() {}

func (*loop) add(*conn) bool { return false }

func (*loop) remove(*conn) {}
