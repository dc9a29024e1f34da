package index

import (
	"slices"
	"syscall"
	"unsafe"
)

// Memory in pages of 4 KiB costs a look-up in a large index more for finding the page than for
// reading it. Where the kernel gives large pages on request ("madvise" or "always" in
// transparent_hugepage/enabled) the tables are in them. Another kernel ignores the request, and
// everything works as without it.

const (
	smallPage    = 4 << 10
	hugePage     = 2 << 20
	hugeWorthy   = 1 << 20 // smaller pieces are left alone
	adviseHuge   = 14      // MADV_HUGEPAGE
	adviseGather = 25      // MADV_COLLAPSE, Linux 6.1
)

// wantHuge asks for large pages for memory that was not used yet.
func wantHuge(b []byte) {
	if len(b) >= hugeWorthy {
		from := uintptr(unsafe.Pointer(&b[0]))
		advise((from+smallPage-1)&^(smallPage-1), (from+uintptr(len(b)))&^(smallPage-1), adviseHuge)
	}
}

type addressRange struct{ from, length uintptr }

// gather brings filled memory into large pages.
func gather(pieces [][]byte) {
	var list []addressRange
	for _, b := range pieces {
		if len(b) >= hugeWorthy {
			list = append(list, addressRange{uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))})
		}
	}
	slices.SortFunc(list, func(a, b addressRange) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	for i := 0; i < len(list); {
		item := list[i]
		for i++; i < len(list) && list[i].from == item.from+item.length; i++ {
			item.length += list[i].length
		}
		// Neighbours in the same large pages come along.
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
