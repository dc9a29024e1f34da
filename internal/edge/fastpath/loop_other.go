//go:build !linux

package fastpath

// loop is empty on systems without epoll, where each connection keeps its goroutine.
type loop struct{}

func (*Listener) startLoops() {}

func (*loop) stop() {}

func (*loop) add(*conn) bool { return false }

func (*loop) remove(*conn) {}
