package scanlog

import (
	"os"
	"syscall"
)

// FreeSpace returns the number of bytes that this process may still write into a folder; known is false if the system does not
// report the number.
func FreeSpace(dir string) (n int64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil || s.Blocks == 0 {
		return 0, false
	}
	blocks := s.Bavail
	if os.Geteuid() == 0 {
		blocks = s.Bfree // includes the blocks reserved for root
	}
	return int64(min(blocks, 1<<40)) * int64(s.Bsize), true
}
