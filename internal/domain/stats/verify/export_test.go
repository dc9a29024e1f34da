package verify

import (
	"context"
)

// Held counts the data that a recount has in memory: bytes of records, and combinations of values that have a number.
type Held struct{ Bytes, Combinations int }

// Read reads the ledger as Run does. It calls each after each scan, and returns what is held when all was read, and how many bytes of
// records of how many days each part has that would be compared.
func (o Recounter) Read(ctx context.Context, each func(Held)) (held Held, days, bytes []int, err error) {
	n, err := o.begin(ctx, &Result{})
	if err != nil {
		return held, nil, nil, err
	}
	defer n.records.close()
	holds := func() Held {
		held := Held{Bytes: n.records.bytesHeld}
		for _, one := range n.fresh {
			held.Combinations += len(one.tuples)
		}
		return held
	}
	for e, err := range o.Counter.Log.Read(ctx, 0) {
		if err == nil {
			err = n.read(ctx, &e)
		}
		if err != nil {
			return held, nil, nil, err
		}
		each(holds())
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
	return holds(), days, bytes, err
}
