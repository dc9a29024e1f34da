//go:build unix

package connlimit

import "syscall"

// Files returns the maximum number of files that this process may open at once.
func Files() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return defaultMaxFiles
	}
	return int(min(uint64(limit.Cur), 1<<30))
}
