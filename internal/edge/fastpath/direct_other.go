//go:build !unix

package lane

import "net"

// direct is for systems with descriptors.
type direct struct{}

func directly(net.Conn) *direct { return nil }

func (*direct) read([]byte) (int, error) { panic("lane: no descriptors here") }

func (*direct) try([]byte) (int, bool) { panic("lane: no descriptors here") }

func (*direct) write([]byte) int { panic("lane: no descriptors here") }

func (*direct) closed() bool { panic("lane: no descriptors here") }
