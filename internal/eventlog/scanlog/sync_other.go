//go:build !linux

package ledger

func (f realFile) sync() error { return f.Sync() }
