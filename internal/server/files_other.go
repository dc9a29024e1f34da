//go:build !unix

package server

// openFiles is how many files this process may open at once.
func openFiles() int { return fewFiles }
