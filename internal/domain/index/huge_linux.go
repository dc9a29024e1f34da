package index

import (
	"cmp"
	"slices"
	"syscall"
	"unsafe"
)

// With 4 KiB pages, a look-up in a large index spends more time on address translation than on reading the memory. If the kernel
// provides huge pages on request ("madvise" or "always" in transparent_hugepage/enabled), the tables of the index are placed in
// huge pages. A kernel without huge pages ignores the request, and the index works as usual.

const (
	smallPage    = 4 << 10
	hugePage     = 2 << 20
	hugeWorthy   = 1 << 20 // smaller blocks of memory are not moved to huge pages
	adviseHuge   = 14      // MADV_HUGEPAGE
	adviseGather = 25      // MADV_COLLAPSE, Linux 6.1
)

// wantHuge requests huge pages for newly allocated, unused memory.
func wantHuge(b []byte) {
	if len(b) >= hugeWorthy {
		from := uintptr(unsafe.Pointer(&b[0]))
		advise((from+smallPage-1)&^(smallPage-1), (from+uintptr(len(b)))&^(smallPage-1), adviseHuge)
	}
}

type addressRange struct{ from, length uintptr }

// gather moves filled memory into huge pages.
func gather(pieces [][]byte) {
	var list []addressRange
	for _, b := range pieces {
		if len(b) >= hugeWorthy {
			list = append(list, addressRange{uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))})
		}
	}
	slices.SortFunc(list, func(a, b addressRange) int { return cmp.Compare(a.from, b.from) })
	for i := 0; i < len(list); {
		item := list[i]
		for i++; i < len(list) && list[i].from == item.from+item.length; i++ {
			item.length += list[i].length
		}
		// The range is extended to whole huge pages, so it may include memory outside the blocks.
		from := item.from &^ (hugePage - 1)
		to := (item.from + item.length + hugePage - 1) &^ (hugePage - 1)
		advise(from, to, adviseGather)
	}
}

func advise(from, to, advice uintptr) {
	if from < to {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, advice) // advice only
	}
}
