package main

import (
	"path/filepath"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// ourIndex adapts the server's index to rule numbers.
type ourIndex struct{ x *index.Index }

// newIndex loads every rule of a set, as the server does at startup.
func newIndex(set *rulegen.Set) (*ourIndex, error) {
	x := &ourIndex{index.New()}
	return x, x.x.Load(func(yield func(rules.Rule, error) bool) {
		for r := range set.All() {
			if !yield(toRule(r)) {
				return
			}
		}
	})
}

func (x *ourIndex) set(r rules.Rule) { x.x.Set(r) }

// governing returns the number of the rule that opens for a text, -1 = none.
func (x *ourIndex) governing(text string) int {
	hit, ok := x.x.Governing(text)
	if !ok {
		return -1
	}
	return int(hit.ID) - 1
}

// snapshotFiles returns the snapshot files in a data folder.
func snapshotFiles(data string) []string {
	list, _ := filepath.Glob(filepath.Join(data, "*.snapshot"))
	return list
}

// variants are the measured configurations of resolve; the target applies to the first.
var variants = []variant{
	{name: "scan listener, recording durably", fast: true},
	{name: "scan listener, answering before the write to disk", fast: true, durability: "async"},
	{name: "net/http, recording durably"},
}
