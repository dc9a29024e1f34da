package stats

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// group is a combination of dimension values: the part of a count's key other than the rule and the time.
type group struct {
	Tuple        // Rule is 0
	id    int64  // Tuple.ID()
	named bool   // true = the store has the Tuple
	owner string // owner of the application; "" = none, or not looked up
}

// groupKey holds the fields of an event that determine its group.
type groupKey struct {
	batch, activation                         int64
	app, source, action, kind, reason, region string
}

// group returns the group of a scan.
func (c *Aggregator) group(ctx context.Context, e *scanlog.Event) (*group, error) {
	key := groupKey{e.Batch, e.Activation, e.App, e.Source, e.Action, e.Kind, e.Reason, e.Region}
	if g := c.groups[key]; g != nil {
		return g, nil
	}
	t, err := c.Tuple(ctx, e)
	if err != nil {
		return nil, err
	}
	t.Rule = 0
	id := t.ID()
	g := c.byID[id]
	if g == nil {
		g = &group{Tuple: t, id: id}
		c.byID[id] = g
	}
	c.groups[key] = g
	return g, nil
}

// pending holds counts in memory that are not stored yet.
type pending struct {
	to        int64 // log position of the last event
	scan      scanlog.ScanID
	scanAt    time.Time
	age       int              // age of the counts in seconds
	events    int              // not counted before
	recounted int              // number of events that were already counted in a scan log that was lost
	uncounted []scanlog.Origin // set by BackfillJournal only: origins of the events
	nodes     map[string]bool  // nodes that the events come from
	cells     map[cell]int32   // index in counts
	counts    []cellCount
	codes     []codeScan
	byCode    map[alarms.CodeName][]int32 // the indexes of the code's scans in the field codes
	unmatched map[missOf]int64
	owners    map[int64]string // by OwnerNumber
}

// cell is the key of a stored count: an hour, a rule and a group.
type cell struct {
	hour, rule int64
	group      *group
}

type cellCount struct {
	cell
	owner int64 // OwnerNumber of the owner
	Count
}

// codeScan is a scan of a code, with the cell that it counts in.
type codeScan struct {
	scanlog.Event
	cell int32
}

type missOf struct {
	hour  int64
	place string
}

func newPending(position int64) *pending {
	return &pending{to: position, cells: map[cell]int32{}, byCode: map[alarms.CodeName][]int32{}, unmatched: map[missOf]int64{},
		nodes: map[string]bool{}, owners: map[int64]string{}}
}

// size returns the number of pending events.
func (p *pending) size() int { return p.events + p.recounted }

// origins returns those entries of the map "all" (the offset sets by node) that belong to nodes with pending events.
func (p *pending) origins(all map[string]*scanlog.OffsetSet) map[string]*scanlog.OffsetSet {
	sets := make(map[string]*scanlog.OffsetSet, len(p.nodes))
	for node := range p.nodes {
		sets[node] = all[node]
	}
	return sets
}

// collect counts the next events, at most limit, and returns their number.
func (c *Aggregator) collect(ctx context.Context, limit int) (n int, err error) {
	for e, fault := range c.Log.Read(ctx, c.pending.to) {
		if err = fault; err != nil {
			err = fmt.Errorf("reading the scan log after offset %d: %w", c.pending.to, err)
			break
		}
		if err = c.countTraced(ctx, &e); err != nil {
			break
		}
		c.window.Add(&e.Event)
		c.windowTo = e.Position
		n++
		if n >= limit || c.isFull() {
			break
		}
		if n%yieldEvery == 0 {
			runtime.Gosched() // lets requests run first
		}
	}
	if id := c.Log.ID(); id != c.state.LogID {
		// The stream was recreated: even if the read failed halfway, the events that were read may come from the new stream, and their
		// positions do not apply to the old stream.
		c.loaded = false
		return 0, errors.Join(fmt.Errorf("%w: %s became %s", errOtherLedger, c.state.LogID, id), err)
	}
	return n, err
}

// errOtherLedger is returned when the scan log was replaced by another scan log during a read.
var errOtherLedger = errors.New("stats: the scan log was replaced")

// countTraced counts an event; if the scan has a trace, countTraced records a span in this trace.
func (c *Aggregator) countTraced(ctx context.Context, e *scanlog.Entry) error {
	if c.Tracing == nil || e.Trace == "" {
		return c.count(ctx, e)
	}
	ctx, ended := tracing.Start(c.Tracing.Continue(ctx, e.Trace), tracing.Consumer, "count scan")
	err := c.count(ctx, e)
	ended(err)
	return err
}

// count adds one event to the pending counts. If count returns an error, the event is not added at all.
func (c *Aggregator) count(ctx context.Context, e *scanlog.Entry) error {
	p, hour := c.pending, timebucket.Hour(e.OccurredAt)
	g, err := c.group(ctx, &e.Event)
	if err != nil {
		return err
	}
	o, err := c.owner(ctx, e.RuleID, e.Batch)
	if err != nil {
		return err
	}
	if c.countedSets[e.From.Node].Has(e.From.Position) {
		// The event was already counted in a scan log that was lost: it is not counted again, but becomes the last scan.
		p.to, p.scan, p.scanAt = e.Position, e.ID, e.OccurredAt
		p.recounted++
		c.countedFrom(e.From)
		c.tail.add(timebucket.Day(hour, c.state.Offset), g, o.name, &e.Event)
		return nil
	}
	if e.Kind == "" {
		if place, missed := PlaceOf(&e.Event); missed {
			if place, err = c.place(ctx, timebucket.Day(hour, 0), place); err != nil {
				return err
			}
			p.unmatched[missOf{hour, place}]++
		}
	}
	p.to, p.scan, p.scanAt = e.Position, e.ID, e.OccurredAt
	p.events++
	c.countedFrom(e.From)
	key := cell{hour, e.RuleID, g}
	pos, have := p.cells[key]
	if !have {
		pos = int32(len(p.counts))
		p.cells[key] = pos
		p.counts = append(p.counts, cellCount{cell: key, owner: o.number})
		p.owners[o.number] = o.name
	}
	p.counts[pos].Scans++
	if e.IdentifiesCode() {
		name := alarms.CodeName{Batch: e.Batch, Index: e.Index}
		p.byCode[name] = append(p.byCode[name], int32(len(p.codes)))
		p.codes = append(p.codes, codeScan{e.Event, pos})
	}
	c.tail.add(timebucket.Day(hour, c.state.Offset), g, o.name, &e.Event)
	return nil
}

// countedFrom records that an event of a node's journal is counted.
func (c *Aggregator) countedFrom(o scanlog.Origin) {
	if o.Node == "" {
		return
	}
	if c.countedSets[o.Node] == nil {
		c.countedSets[o.Node] = &scanlog.OffsetSet{}
	}
	c.countedSets[o.Node].Add(o)
	c.pending.nodes[o.Node] = true
}

// place returns the link prefix under which a scan without a result is counted: the first MaxPlaces link prefixes of a UTC day, in
// log order, are counted under their own name.
func (c *Aggregator) place(ctx context.Context, day int64, name string) (string, error) {
	places := c.places[day]
	if places == nil {
		if len(c.places) >= maxPlaceDays && len(c.pending.unmatched) == 0 {
			clear(c.places)
		}
		list, err := view(ctx, c, func(tx Tx) ([]string, error) { return tx.Places(ctx, day, MaxPlaces+1) })
		if err != nil {
			return "", fmt.Errorf("reading unmatched scans: %w", err)
		}
		places = map[string]bool{}
		for _, item := range list {
			places[item] = true
		}
		delete(places, OtherPlaces)
		c.places[day] = places
	}
	if places[name] {
		return name, nil
	}
	if len(places) >= MaxPlaces {
		return OtherPlaces, nil
	}
	places[name] = true
	return name, nil
}

// PlaceOf returns the place of a scan without a result: the host and the first path segment of the link; false if the scan had a result.
func PlaceOf(e *scanlog.Event) (string, bool) {
	if e.Kind != "" || e.Batch != 0 {
		return "", false
	}
	if e.Reason != "" {
		return "(" + e.Reason + ")", true
	}
	return placeOfLink(e.Text), true
}

func placeOfLink(text string) string {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return "(no link)"
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, path := strings.ToLower(rest[:end]), rest[end:]
	if pos := strings.LastIndexByte(host, '@'); pos >= 0 {
		host = host[pos+1:]
	}
	if path == "" || path[0] != '/' {
		return clean(host)
	}
	if end = strings.IndexAny(path[1:], "/?#"); end >= 0 {
		path = path[:end+1]
	}
	return clean(host + path)
}

// clean shortens a text and replaces characters that a database may reject.
func clean(text string) string {
	if len(text) > maxValue {
		text = text[:maxValue]
	}
	if utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
		return text
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Tuple returns the values of the dimensions under which an event is counted.
func (c *Aggregator) Tuple(ctx context.Context, e *scanlog.Event) (Tuple, error) {
	t := Tuple{Batch: e.Batch, Rule: e.RuleID, App: clean(e.App), Source: clean(e.Source), Result: clean(ResultOf(e)),
		Region: clean(e.Region)}
	if e.Activation == 0 {
		return t, nil
	}
	b, err := c.binding(ctx, e.Activation)
	if err != nil {
		return t, err
	}
	t.Activity, t.Brand, t.Product = clean(b.ActivityName), clean(b.ProductBrand), clean(b.ProductCode)
	return t, nil
}

// binding returns the binding of an activation; the zero value if the activation does not exist. The binding is cached, because an
// activation never changes.
func (c *Aggregator) binding(ctx context.Context, activation int64) (b codes.Binding, err error) {
	c.bindings.Lock()
	defer c.bindings.Unlock()
	if b, ok := c.bindings.known[activation]; ok {
		return b, nil
	}
	b, err = view(ctx, c, func(tx Tx) (codes.Binding, error) { return tx.Binding(ctx, activation) })
	if errors.Is(err, ErrNoActivation) {
		return codes.Binding{}, nil
	}
	if err != nil {
		return b, fmt.Errorf("reading activation %d: %w", activation, err)
	}
	if c.bindings.known == nil || len(c.bindings.known) >= maxKnown {
		c.bindings.known = map[int64]codes.Binding{}
	}
	c.bindings.known[activation] = b
	return b, nil
}
