//go:build !linux

package scan

func wantHuge([]byte) {}

func gather([][]byte) {}
