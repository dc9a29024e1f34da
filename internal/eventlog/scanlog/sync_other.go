//go:build !linux

package scanlog

func (f realFile) sync() error { return f.Sync() }
