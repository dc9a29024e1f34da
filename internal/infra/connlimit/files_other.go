//go:build !unix

package connlimit

// Files returns the maximum number of files that this process may open at once.
func Files() int { return fewFiles }
