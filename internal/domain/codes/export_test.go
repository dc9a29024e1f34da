package codes

// Spans returns the number of spans of the activations of a batch.
func (m *Memory) Spans(batch int64) int {
	b := m.batch(batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.active.spans.Len()
}

// PendingEvents returns the number of events of a batch that are in memory and not in force.
func (m *Memory) PendingEvents(batch int64) int {
	b := m.batch(batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// Bytes returns the size of the states of a batch in bytes.
func (m *Memory) Bytes(batch int64) uint64 {
	b := m.batch(batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frozen.GetSizeInBytes() + b.void.GetSizeInBytes() + b.redeemed.GetSizeInBytes()
}

// DefaultPrinted prints texts of 28 characters, which fit QR version 2 at level Q. Contract: marketcode 4.2, 5.3.
func DefaultPrinted() Printed { return Printed{Prefix: DefaultPrefix, Version: FirstVersion} }
