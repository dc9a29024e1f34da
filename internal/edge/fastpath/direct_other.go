//go:build !unix

package fastpath

import "net"

// direct is empty on systems without file descriptors.
type direct struct{}

func newDirect(net.Conn) *direct { return nil }

func (*direct) read([]byte) (int, error) { panic("fastpath: no descriptors here") }

func (*direct) try([]byte) (int, bool) { panic("fastpath: no descriptors here") }

func (*direct) write([]byte) int { panic("fastpath: no descriptors here") }

func (*direct) closed() bool { panic("fastpath: no descriptors here") }
