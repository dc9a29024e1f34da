//go:build !unix

package scanapi

import "net"

// direct is for systems with descriptors; elsewhere answers are waited for.
type direct struct{}

func newDirect(net.Conn) *direct { return nil }

func (*direct) send([]byte) int { return 0 }
