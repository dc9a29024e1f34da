package codes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// State is the state of one code at a moment.
type State struct {
	Activation *Event // nil: not active
	Frozen     bool
	Void       bool
	Redeemed   bool
}

// Memory contains the state that scans and look-ups need: the batches by their counters, and the events that apply to each index. The size
// of Memory grows with the number of calls, not of codes.
type Memory struct {
	Store Store

	reading sync.Mutex
	mu      sync.RWMutex
	batches map[int64]*batchMemory
	byStart []*batchMemory // sorted by first counter
	// prefixes lists the prefixes of all batches, because printed codes must stay recognisable.
	prefixes []string
	// imported lists the prefixes of imported batches.
	imported []string
	// templates indexes the templates of all batches.
	templates templateIndex
	// templateCount counts the templates of all batches, importedTemplateCount the templates of imported batches, and tokenTemplateCount
	// the templates with a token. If one of these counters is 0, the look-up among the templates that it counts is skipped.
	templateCount, importedTemplateCount, tokenTemplateCount atomic.Int64
	// seqAtRebuild maps batch IDs to the number of the last event that the Memory in use had read when this rebuild started.
	seqAtRebuild map[int64]int64
}

// batchMemory holds the state of one batch's codes in memory. One lock per batch keeps calls for different batches independent.
type batchMemory struct {
	Batch

	mu sync.Mutex
	batchState
}

// batchState aggregates the events of a batch that this node has read.
type batchState struct {
	seq          int64 // number of the last event read
	active       coverage
	waiting      []Event   // scheduled events that were read and have not taken effect yet, ordered by From
	appliedUntil time.Time // time at which the latest applied event took effect
	// lastCallAt is the time of the latest call that was read. Applied events stay applied even if this node's clock shows an earlier time:
	// it may have been set back, or another node's clock may be ahead.
	lastCallAt        time.Time
	waitingAfterApply int  // length of waiting after applyUntil last ran
	rereading         bool // true = all events are being read again, and none is applied until all are read
	// allFrozen reports that the whole batch is frozen. allFrozen is separate from individually frozen codes, which stay frozen
	// when the batch is unfrozen.
	allFrozen bool
	frozen    *roaring.Bitmap
	void      *roaring.Bitmap
	redeemed  *roaring.Bitmap
	arrived   *roaring.Bitmap // imported batches only
	// codesRemoved reports that an UndoImport event was read; hasOtherEvents, that an event other than Import and UndoImport was read.
	codesRemoved, hasOtherEvents bool
}

// NewMemory is empty.
func NewMemory(s Store) *Memory {
	return &Memory{Store: s, batches: map[int64]*batchMemory{}}
}

// Rebuild returns an empty Memory. The caller fills the new Memory and passes it to Swap; meanwhile m stays in use and reads new events.
func (m *Memory) Rebuild() *Memory {
	fresh := NewMemory(m.Store)
	fresh.seqAtRebuild = map[int64]int64{}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for id, b := range m.batches {
		fresh.seqAtRebuild[id] = b.lastSeq()
	}
	return fresh
}

// Load reads all batches and events into an empty Memory.
func (m *Memory) Load(ctx context.Context) error {
	m.reading.Lock()
	defer m.reading.Unlock()
	for b, err := range m.Store.Batches(ctx) {
		if err != nil {
			return fmt.Errorf("loading batches: %w", err)
		}
		m.add(b)
	}
	broken := map[int64]*batchMemory{}
	for e, err := range m.Store.Events(ctx, 0, 0) {
		if err != nil {
			return fmt.Errorf("loading code events: %w", err)
		}
		b := m.batch(e.Batch)
		if b == nil {
			// Another node created the batch after the list of batches was read.
			if b, err = m.addStored(ctx, e.Batch); err != nil {
				return fmt.Errorf("event %d belongs to batch %d: %w", e.Seq, e.Batch, err)
			}
		}
		if !b.enqueue(e) {
			broken[b.ID] = b
		}
	}
	// The event times of a batch normally never decrease. If event times decrease, all events of the batch are read before any of them
	// is applied.
	for id, b := range broken {
		b.clear()
		if err := m.catchUp(ctx, b); err != nil {
			return fmt.Errorf("loading code events of %d: %w", id, err)
		}
	}
	return nil
}

// Swap replaces the content of m by that of "fresh", the rebuilt Memory. Each batch is replaced atomically and never by an older state, so
// a batch that a transaction updated in m stays up to date. Swap returns false if m has read an event that fresh has not read: the caller
// must update fresh and call Swap again.
func (m *Memory) Swap(fresh *Memory) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	complete := true
	for id, b := range m.batches {
		_, wasSet := fresh.seqAtRebuild[id]
		switch f := fresh.batches[id]; {
		case f == nil && wasSet, f != nil && f.Batch != b.Batch: // the batch was removed or replaced
			delete(m.batches, id)
		case f == nil || f != b && !b.adopt(f, fresh.seqAtRebuild[id]):
			complete = false
		default:
			fresh.batches[id] = b // from here on, both memories share the batch
		}
	}
	for id, f := range fresh.batches {
		if m.batches[id] == nil {
			m.batches[id] = f
		}
	}
	m.byStart = slices.SortedFunc(maps.Values(m.batches), func(a, b *batchMemory) int { return cmp.Compare(a.Start, b.Start) })
	m.byStart = slices.DeleteFunc(m.byStart, func(b *batchMemory) bool { return b.Imported })
	m.prefixes, m.imported, m.templates = slices.Clone(fresh.prefixes), slices.Clone(fresh.imported), templateIndex{}
	for _, b := range m.batches {
		m.addPrefix(b.Batch)
	}
	return complete
}

// addPrefix adds the prefix of a batch. addPrefix copies the slice m.prefixes, because readers may still use the old one.
func (m *Memory) addPrefix(b Batch) {
	if b.ImportUndone() {
		return
	}
	m.templates = m.templates.add(b)
	m.templateCount.Store(int64(m.templates.count))
	m.importedTemplateCount.Store(int64(m.templates.importedCount))
	m.tokenTemplateCount.Store(int64(len(m.templates.tokenTemplates)))
	if b.Imported && b.Template != "" {
		return // texts with a template are recognised by the template
	}
	if !slices.Contains(m.prefixes, b.Prefix) {
		m.prefixes = append(slices.Clone(m.prefixes), b.Prefix)
	}
	if b.Imported && !slices.Contains(m.imported, b.Prefix) {
		m.imported = append(slices.Clone(m.imported), b.Prefix)
	}
}

// Newest returns the newest batch whose texts have a prefix or template; 0 = none, or batches of several accounts have it.
func (m *Memory) Newest(prefix string) (id int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	account := ""
	for _, b := range m.batches {
		switch {
		case b.ImportUndone() || cmp.Or(b.Template, b.Prefix) != prefix:
		case account != "" && account != b.Account:
			return 0
		default:
			account, id = b.Account, max(id, b.ID)
		}
	}
	return id
}

// ImportedPrefixes returns the prefixes of imported batches.
func (m *Memory) ImportedPrefixes() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.imported
}

// adopt replaces the state of b by that of f. adopt returns false if b has, since the rebuild started, read events that f lacks.
func (b *batchMemory) adopt(f *batchMemory, seqAtRebuild int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seq > f.seq && b.seq != seqAtRebuild {
		return false
	}
	b.batchState = f.batchState
	return true
}

// lastSeq returns the number of the last event that was read.
func (b *batchMemory) lastSeq() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// addStored adds a batch from the store; it returns ErrNoBatch if the batch does not exist.
func (m *Memory) addStored(ctx context.Context, id int64) (*batchMemory, error) {
	b, err := accounts.Transact(ctx, m.Store.ViewCodes, func(tx Tx) (Batch, error) { return tx.Batch(ctx, id) })
	if err != nil {
		return nil, err
	}
	return m.add(b), nil
}

func (m *Memory) add(b Batch) *batchMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	existing := m.batches[b.ID]
	if existing != nil && (existing.Batch == b || !b.Imported) {
		return existing
	}
	memory := newBatchMemory(b)
	m.batches[b.ID] = memory
	if existing != nil { // the batch's import was undone, or its ID now belongs to another batch
		m.prefixes, m.imported, m.templates = nil, nil, templateIndex{}
		for _, known := range m.batches {
			m.addPrefix(known.Batch)
		}
		return memory
	}
	if !b.Imported {
		i, _ := slices.BinarySearchFunc(m.byStart, b.Start, func(b *batchMemory, c uint64) int { return cmp.Compare(b.Start, c) })
		m.byStart = slices.Insert(m.byStart, i, memory)
	}
	m.addPrefix(b)
	return memory
}

// Prefixes returns the prefixes of all batches, and the current prefix if it is not "".
func (m *Memory) Prefixes(current string) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if current == "" || slices.Contains(m.prefixes, current) {
		return m.prefixes
	}
	return append([]string{current}, m.prefixes...)
}

// Changed reads the new events of a batch.
func (m *Memory) Changed(ctx context.Context, id int64) error {
	m.reading.Lock()
	defer m.reading.Unlock()
	b := m.batch(id)
	if b == nil || b.Imported { // an imported batch is read again, because its import may have been undone
		var err error
		if b, err = m.addStored(ctx, id); errors.Is(err, ErrNoBatch) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return m.catchUp(ctx, b)
}

// CatchUp reads the events of a batch that were added since the last read.
func (m *Memory) CatchUp(ctx context.Context, id int64) error {
	b := m.batch(id)
	if b == nil {
		return nil
	}
	return m.catchUp(ctx, b)
}

func (m *Memory) catchUp(ctx context.Context, b *batchMemory) error {
	return b.catchUp(func(start int64) ([]Event, error) {
		var list []Event
		for e, err := range m.Store.Events(ctx, b.ID, start) {
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		return list, nil
	})
}

// BatchOrLoad is the variant of Batch for API calls: if the batch is not in memory, it reads the batch from the store, because another node
// may have just created it. ErrNoBatch.
func (m *Memory) BatchOrLoad(ctx context.Context, id int64) (Batch, error) {
	if b, ok := m.Batch(id); ok {
		return b, nil
	}
	if id <= 0 || id > maxBatchID {
		return Batch{}, ErrNoBatch
	}
	b, err := m.addStored(ctx, id)
	if err == nil && b.ImportUndone() {
		err = ErrNoBatch
	}
	if err != nil {
		return Batch{}, err
	}
	return b.Batch, m.catchUp(ctx, b)
}

// catchUpTx implements Changed within a transaction that holds the batch's lock: it uses only the connection of the transaction, which may
// be the last free one, and waits for no other reader.
func (m *Memory) catchUpTx(ctx context.Context, tx Tx, b Batch) error {
	return m.add(b).catchUp(func(start int64) ([]Event, error) { return tx.EventsAfter(ctx, b.ID, start) })
}

// catchUp reads the events after the last event that was read. Event numbers increase in commit order, so a reader sees everything
// that an earlier reader saw. Events that another reader has already added are skipped by their numbers.
func (b *batchMemory) catchUp(eventsAfter func(int64) ([]Event, error)) error {
	b.mu.Lock()
	start := b.seq
	b.mu.Unlock()
	for {
		list, err := eventsAfter(start)
		if err != nil || b.enqueueAll(list, start == 0) {
			return err
		}
		start = 0
	}
}

// enqueueAll queues events until they take effect. enqueueAll returns false if all events must be read again, because a new event takes
// effect before one that is already applied: the new event became due during its commit, or the clocks of two nodes differ.
func (b *batchMemory) enqueueAll(list []Event, fromStart bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if fromStart && b.seq > 0 {
		if len(list) == 0 || list[len(list)-1].Seq < b.seq {
			return false // another reader has already read later events
		}
		b.clear()
	}
	b.rereading = fromStart
	defer func() { b.rereading = false }()
	for _, e := range list {
		if !b.enqueue(e) {
			return false
		}
	}
	return true
}

// maxWaiting is the number of queued events at which due events are applied, even if the batch is neither scanned nor queried.
const maxWaiting = 1000

func (b *batchMemory) clear() {
	b.seq, b.active, b.waiting, b.appliedUntil, b.lastCallAt = 0, coverage{}, nil, time.Time{}, time.Time{}
	b.waitingAfterApply = 0
	b.allFrozen, b.codesRemoved, b.hasOtherEvents = false, false, false
	b.frozen, b.void, b.redeemed = roaring.New(), roaring.New(), roaring.New()
	if b.Imported {
		b.arrived = roaring.New()
	}
}

// enqueue queues an event until it takes effect. enqueue returns false for an event that takes effect before an event that is
// already applied.
func (b *batchMemory) enqueue(e Event) bool {
	if e.Seq <= b.seq {
		return true
	}
	if e.From.Before(b.appliedUntil) {
		return false
	}
	b.seq = e.Seq
	if e.OccurredAt.After(b.lastCallAt) {
		b.lastCallAt = e.OccurredAt
	}
	b.codesRemoved = b.codesRemoved || e.Action == UndoImport
	b.hasOtherEvents = b.hasOtherEvents || e.Action != UndoImport && e.Action != Import
	i, _ := slices.BinarySearchFunc(b.waiting, e, func(a, c Event) int {
		return cmp.Or(a.From.Compare(c.From), cmp.Compare(a.Seq, c.Seq))
	})
	b.waiting = slices.Insert(b.waiting, i, e)
	// Scans and queries apply queued events, but it is possible that no scan or query of a batch follows. To limit the number of
	// events in memory, events that no later event can precede are applied here.
	if !b.rereading && len(b.waiting) >= max(maxWaiting, 2*b.waitingAfterApply) {
		b.applyUntil(b.lastCallAt)
	}
	return true
}

// applyUntil applies the queued events that take effect up to time now.
func (b *batchMemory) applyUntil(now time.Time) {
	if now.Before(b.lastCallAt) {
		now = b.lastCallAt
	}
	n := 0
	for n < len(b.waiting) && !b.waiting[n].From.After(now) {
		b.apply(&b.waiting[n])
		n++
	}
	if n > 0 {
		b.appliedUntil = b.waiting[n-1].From
		b.waiting = slices.Clone(b.waiting[n:]) // so that the memory of applied events can be freed
	}
	b.waitingAfterApply = len(b.waiting)
}

func (b *batchMemory) apply(e *Event) {
	kept := *e
	// The bitmaps already store ranges as runs; optimising the bitmaps after every event would take a millisecond each time.
	for _, r := range e.Codes {
		b.applyTo(&kept, r)
	}
}

// applyTo applies an event to a range of codes.
func (b *batchMemory) applyTo(e *Event, r Range) {
	from, to := uint64(r.From), uint64(r.To)+1
	switch e.Action {
	case Activate, Deactivate:
		b.active.applyTo(e, r)
	case Freeze, Unfreeze:
		switch {
		case r.From == 0 && r.To == b.Count-1:
			b.allFrozen = e.Action == Freeze
		case e.Action == Freeze:
			b.frozen.AddRange(from, to)
		default:
			b.frozen.RemoveRange(from, to)
		}
	case Void:
		b.void.AddRange(from, to)
	case Redeem:
		b.redeemed.AddRange(from, to)
	case Import:
		if b.arrived != nil {
			b.arrived.AddRange(from, to)
		}
	case UndoImport:
		if b.arrived != nil {
			b.arrived.RemoveRange(from, to)
		}
	}
}

// state returns the state of the code with the given index.
func (b *batchMemory) state(index int64) State {
	i := uint32(index)
	return State{Activation: b.active.eventAt(index), Frozen: b.allFrozen || b.frozen.Contains(i), Void: b.void.Contains(i),
		Redeemed: b.redeemed.Contains(i)}
}

func newBatchMemory(b Batch) *batchMemory {
	memory := &batchMemory{Batch: b}
	memory.clear()
	return memory
}

// Find returns the batch that contains a counter, and the index of the counter in the batch.
func (m *Memory) Find(counter uint64) (b Batch, index int64, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	i, exact := slices.BinarySearchFunc(m.byStart, counter, func(have *batchMemory, c uint64) int { return cmp.Compare(have.Start, c) })
	if !exact {
		i--
	}
	if i < 0 || counter-m.byStart[i].Start >= uint64(m.byStart[i].Count) {
		return Batch{}, 0, false
	}
	return m.byStart[i].Batch, int64(counter - m.byStart[i].Start), true
}

func (m *Memory) batch(id int64) *batchMemory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.batches[id]
}

// upToDate locks the memory of a batch, in which the events until now have taken effect; the caller must unlock it. If the batch is not in
// memory, the result is empty.
func (m *Memory) upToDate(id int64, now time.Time) *batchMemory {
	b := m.batch(id)
	if b == nil {
		b = newBatchMemory(Batch{})
	}
	b.mu.Lock()
	b.applyUntil(now)
	return b
}

// Batch returns the batch with the given ID.
func (m *Memory) Batch(id int64) (b Batch, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	memory, ok := m.batches[id]
	if !ok || memory.ImportUndone() {
		return Batch{}, false
	}
	return memory.Batch, true
}

// Batches returns every batch, oldest first.
func (m *Memory) Batches() []Batch {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]Batch, 0, len(m.batches))
	for _, batch := range m.batches {
		if !batch.ImportUndone() {
			list = append(list, batch.Batch)
		}
	}
	slices.SortFunc(list, func(a, b Batch) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Activities returns the activities of the active codes of a batch; for a batch with very many activations, only the activities of
// the first activations.
func (m *Memory) Activities(batch int64, now time.Time) (names []string) {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	visited := 0
	b.active.spans.Scan(func(_ int64, s span) bool {
		if s.activation != nil && !slices.Contains(names, s.activation.Binding.ActivityName) {
			names = append(names, s.activation.Binding.ActivityName)
		}
		visited++
		return visited < 100
	})
	return names
}

// State returns the state of a code at time now, or at the OccurredAt of the latest event that was read, if that time is later.
func (m *Memory) State(batch, index int64, now time.Time) State {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	return b.state(index)
}

// Arrived returns the number of codes of an imported batch that have been imported.
func (m *Memory) Arrived(batch int64, now time.Time) int64 {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	if b.arrived == nil {
		return 0
	}
	return int64(b.arrived.GetCardinality())
}

// importState is the state of an imported batch.
type importState struct {
	lowest         Set  // the imported codes with the lowest indexes of a range, at most "limit"
	codesRemoved   bool // imported codes of the batch were deleted
	hasOtherEvents bool // the batch has events other than Import and UndoImport
}

// importState returns the state of an imported batch, with at most limit codes of a range.
func (m *Memory) importState(batch int64, r Range, limit int, now time.Time) (state importState) {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	if b.arrived == nil {
		return state
	}
	peekable := b.arrived.Iterator()
	peekable.AdvanceIfNeeded(uint32(r.From))
	for n := 0; n < limit && peekable.HasNext(); n++ {
		i := int64(peekable.Next())
		if i > r.To {
			break
		}
		if last := len(state.lowest) - 1; last >= 0 && state.lowest[last].To == i-1 {
			state.lowest[last].To = i
		} else {
			state.lowest = append(state.lowest, Range{i, i})
		}
	}
	state.codesRemoved, state.hasOtherEvents = b.codesRemoved, b.hasOtherEvents
	return state
}

// Counts holds the number of codes of a batch in each state.
type Counts struct {
	Frozen, Void, Redeemed uint64
}

// Counts returns the number of codes of a batch in each state.
func (m *Memory) Counts(batch int64, now time.Time) Counts {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	frozen := b.frozen.GetCardinality()
	if b.allFrozen {
		frozen = uint64(b.Count)
	}
	return Counts{frozen, b.void.GetCardinality(), b.redeemed.GetCardinality()}
}
