//go:build !unix

package connlimit

// Files returns the assumed limit of open files on systems that do not report the limit.
func Files() int { return defaultMaxFiles }
