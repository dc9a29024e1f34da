//go:build !linux

package stats

func (f realFile) sync() error { return f.Sync() }
