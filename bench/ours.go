package main

import (
	"path/filepath"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// ourIndex is the server's index as this program asks it.
type ourIndex struct{ x *index.Index }

// newIndex loads every rule of a set, as a start of the server does.
func newIndex(set *rulegen.Set) (*ourIndex, error) {
	x := &ourIndex{index.New()}
	return x, x.x.Load(func(yield func(rules.Rule, error) bool) {
		for r := range set.All() {
			if !yield(ruleOf(r)) {
				return
			}
		}
	})
}

func (x *ourIndex) set(r rules.Rule) { x.x.Set(r) }

// governing is the number of the rule that opens for a text, -1 = none.
func (x *ourIndex) governing(text string) int {
	hit, ok := x.x.Governing(text)
	if !ok {
		return -1
	}
	return int(hit.ID) - 1
}

// snapshotFiles are the files from which the server starts faster.
func snapshotFiles(data string) []string {
	list, _ := filepath.Glob(filepath.Join(data, "*.snapshot"))
	return list
}

// variants are the ways in which resolve is measured; the first is the target's.
var variants = []variant{
	{name: "scan listener, recording durably", fast: true},
	{name: "scan listener, answering before the write to disk", fast: true, durability: "async"},
	{name: "net/http, recording durably"},
}
