package verify

import (
	"context"
)

// MemoryUse is the memory of a recount: bytes of records, and numbered combinations of values.
type MemoryUse struct{ Bytes, Combinations int }

// Read reads the scan log as Run does. It calls each after each scan. It returns the memory use at the end, and the number of days and the
// bytes of records of each part that Run would compare.
func (o Recounter) Read(ctx context.Context, each func(MemoryUse)) (held MemoryUse, days, bytes []int, err error) {
	n, err := o.begin(ctx, &Result{})
	if err != nil {
		return held, nil, nil, err
	}
	defer n.records.close()
	memoryUse := func() MemoryUse {
		use := MemoryUse{Bytes: n.records.bytesHeld}
		for _, day := range n.fresh {
			use.Combinations += len(day.tuples)
		}
		return use
	}
	for e, err := range o.Counter.Log.Read(ctx, 0) {
		if err == nil {
			err = n.read(ctx, &e)
		}
		if err != nil {
			return held, nil, nil, err
		}
		each(memoryUse())
	}
	if err := n.records.flush(); err != nil {
		return held, nil, nil, err
	}
	err = n.inParts(ofDays, func(from, to partition) error {
		days, bytes = append(days, 0), append(bytes, 0)
		for name := range n.partitionsBetween(from, to) {
			days[len(days)-1]++
			bytes[len(bytes)-1] += int(n.records.partitions[name].size)
		}
		return nil
	})
	return memoryUse(), days, bytes, err
}
