package stats

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/codes"

	"github.com/qrjump/qrjump/internal/ledger"
)

// MaxFeed is the most scans that one page of the feed holds.
const MaxFeed = 1000

// ErrForgotten is returned for a scan from a time that the ledger no longer
// has, if it ever was.
var ErrForgotten = errors.New("stats: the scan is older than what the ledger keeps")

// Counted is a scan of the feed and what its code counts for.
type Counted struct {
	ledger.Entry
	Activity, Brand, Product string
}

// Feed returns the scans after one, in the order in which they became known;
// the zero id is before the first. At most limit. ErrNoScan
// where there is no such scan, ErrForgotten where it may have been one.
func (c *Counter) Feed(ctx context.Context, after ledger.ScanID, limit int) (list []Counted, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return nil, err
	}
	position := int64(0)
	if after != (ledger.ScanID{}) {
		if position, err = c.find(ctx, after); err != nil {
			return nil, err
		}
	}
	for e, err := range c.All(ctx, position) {
		if err != nil {
			return nil, err
		}
		if list = append(list, e); len(list) >= limit {
			break
		}
	}
	return list, nil
}

// Newest returns scans in the order in which they became known, beginning with
// the n-th of the newest: at most limit. older says that there
// are further ones before them.
func (c *Counter) Newest(ctx context.Context, n, limit int) (list []Counted, older bool, err error) {
	if err := c.CatchUp(ctx); err != nil {
		return nil, false, err
	}
	before, older, err := c.beforeNewest(ctx, n)
	if err != nil {
		return nil, false, err
	}
	for e, err := range c.All(ctx, before) {
		if err != nil {
			return nil, false, err
		}
		if list = append(list, e); len(list) >= limit {
			break
		}
	}
	return list, older, nil
}

// beforeNewest returns the position before the newest n scans. Some positions
// hold none: it looks twice as far back until n are found.
func (c *Counter) beforeNewest(ctx context.Context, n int) (position int64, older bool, err error) {
	state, err := c.stored(ctx)
	if err != nil {
		return 0, false, err
	}
	for reach := int64(n) + 1; ; reach *= 2 {
		from := max(0, state.Position-reach)
		var found []int64
		for e, err := range c.upToCounted(ctx, from) {
			if err != nil {
				return 0, false, err
			}
			found = append(found, e.Position)
		}
		switch {
		case len(found) > n:
			return found[len(found)-n] - 1, true, nil
		case from == 0:
			return 0, false, nil
		}
	}
}

// Scan returns a scan: ErrNoScan where there is none, ErrForgotten where there
// may have been one.
func (c *Counter) Scan(ctx context.Context, id ledger.ScanID) (found Counted, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return found, err
	}
	position, err := c.find(ctx, id)
	if err != nil {
		return found, err
	}
	for e, err := range c.Log.Read(ctx, position-1) {
		if err != nil {
			return found, fmt.Errorf("reading the scan %s: %w", id, err)
		}
		if e.ID == id {
			return c.withBinding(ctx, e)
		}
		break
	}
	return found, ledger.ErrNoScan
}

func (c *Counter) withBinding(ctx context.Context, e ledger.Entry) (Counted, error) {
	out := Counted{Entry: e}
	if e.Activation == 0 {
		return out, nil
	}
	var b codes.Binding
	b, err := c.binding(ctx, e.Activation)
	out.Activity, out.Brand, out.Product = b.ActivityName, b.ProductBrand, b.ProductCode
	return out, err
}

// find returns where a scan stands.
func (c *Counter) find(ctx context.Context, id ledger.ScanID) (int64, error) {
	position, err := c.Log.Find(ctx, id)
	if errors.Is(err, ledger.ErrNoScan) {
		for e, err := range c.Log.Read(ctx, 0) {
			if err == nil && id.Time().Before(e.At) && !c.forgotten(ctx).IsZero() {
				return 0, ErrForgotten
			}
			break
		}
		return 0, ledger.ErrNoScan
	}
	if err != nil {
		return 0, fmt.Errorf("looking for the scan %s: %w", id, err)
	}
	return position, nil
}

func (c *Counter) forgotten(ctx context.Context) time.Time {
	state, _ := c.stored(ctx)
	return state.Forgotten
}

// All yields every scan after a position, in the order of the ledger, up to what is
// counted.
func (c *Counter) All(ctx context.Context, after int64) iter.Seq2[Counted, error] {
	return func(yield func(Counted, error) bool) {
		for e, err := range c.upToCounted(ctx, after) {
			var one Counted
			if err == nil {
				one, err = c.withBinding(ctx, e)
			}
			if !yield(one, err) || err != nil {
				return
			}
		}
	}
}

// upToCounted is All without what codes count for.
func (c *Counter) upToCounted(ctx context.Context, after int64) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		state, err := c.stored(ctx)
		if err != nil {
			yield(ledger.Entry{}, err)
			return
		}
		for e, err := range c.Log.Read(ctx, after) {
			if err != nil {
				err = fmt.Errorf("reading the ledger: %w", err)
			} else if e.Position > state.Position {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Since is All of the scans since a moment; older ones may be among them.
func (c *Counter) Since(ctx context.Context, moment time.Time) iter.Seq2[Counted, error] {
	after, err := c.Log.Before(ctx, moment)
	if err != nil {
		return func(yield func(Counted, error) bool) { yield(Counted{}, fmt.Errorf("reading the ledger: %w", err)) }
	}
	return c.All(ctx, after)
}

// Forget removes scans that are older than a moment from the ledger, as far as
// they can be removed in bulk. Their counts stay.
func (c *Counter) Forget(ctx context.Context, before time.Time) error {
	// A scan that is not counted yet must stay.
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	_, err := c.change(ctx, func(_ context.Context, _ Tx, s *State) error {
		if s.Forgotten.Before(before) {
			s.Forgotten = before
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting that scans are forgotten: %w", err)
	}
	c.mu.Lock()
	c.loaded = false
	c.mu.Unlock()
	return c.Log.Forget(ctx, before)
}

// Erase makes every scan of a user that was acknowledged before anonymous and
// returns how many there were. Counts stay what they are: where a user was kept by
// a number, a number that means nothing takes its place. The counting, and who
// asks for users, wait only for what came while the ledger was read.
func (c *Counter) Erase(ctx context.Context, user ledger.UserHash) (int64, error) {
	if user == (ledger.UserHash{}) {
		return 0, nil
	}
	logs := append([]ledger.Log{c.Log}, c.Earlier...)
	// First: what is on its way is anonymous when it arrives, and the rest is there.
	for _, log := range logs {
		if err := log.Announce(ctx, user); err != nil {
			return 0, err
		}
	}
	if err := c.CatchUp(ctx); err != nil {
		return 0, err
	}
	c.mu.Lock()
	log, offset, until := c.state.Ledger, c.state.Offset, c.state.Position
	c.mu.Unlock()
	e := &erasing{user: user, offset: offset, keys: map[UsersKey]bool{}, names: map[CodeName]bool{}, known: map[ledger.ScanID]bool{}}
	for n, log := range logs {
		upTo := int64(math.MaxInt64)
		if n == 0 {
			upTo = until
		}
		if err := e.read(ctx, c, log, 0, upTo, n > 0); err != nil {
			return 0, err
		}
	}
	until, err := c.forgetUser(ctx, e, log, until)
	for errors.Is(err, errMoved) && ctx.Err() == nil {
		// Another node counted on while this one read.
		if err = c.CatchUp(ctx); err == nil {
			until, err = c.forgetUser(ctx, e, log, until)
		}
	}
	if err != nil {
		return 0, err
	}
	n, err := c.Log.Erase(ctx, user, until)
	for _, log := range c.Earlier {
		if err == nil {
			_, err = log.Erase(ctx, user, math.MaxInt64)
		}
	}
	if err != nil {
		return n, fmt.Errorf("making the scans of a user anonymous: %w", err)
	}
	return n + e.earlier, nil
}

// erasing is where a user is counted.
type erasing struct {
	user    ledger.UserHash
	offset  int64
	keys    map[UsersKey]bool
	names   map[CodeName]bool
	known   map[ledger.ScanID]bool
	earlier int64 // events that are in an earlier log alone
}

// read looks for the user after a position of a log up to another.
func (x *erasing) read(ctx context.Context, c *Counter, log ledger.Log, after, upTo int64, earlier bool) error {
	for e, err := range log.Read(ctx, after) {
		if err != nil {
			return fmt.Errorf("looking for the scans of a user: %w", err)
		}
		if e.Position > upTo {
			return nil
		}
		if e.User != x.user {
			continue
		}
		t, err := c.tuple(ctx, &e.Event)
		if err != nil {
			return err
		}
		day := DayOf(HourOf(e.At), x.offset)
		for d := range dims {
			x.keys[UsersKey{day, d, t.Value(d)}] = true
		}
		if e.Batch != 0 {
			x.names[CodeName{e.Batch, e.Index}] = true
		}
		if earlier && !x.known[e.ID] {
			x.earlier++
		}
		x.known[e.ID] = true
	}
	return nil
}

// forgetUser takes a user out of everything that is counted, while nobody counts,
// and returns up to where that is. Scans after a position are read first.
func (c *Counter) forgetUser(ctx context.Context, e *erasing, log string, after int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return after, errMoved
	}
	if err := c.saveAll(ctx, true); err != nil {
		return after, err
	}
	if c.state.Ledger != log || c.state.Offset != e.offset {
		return 0, errors.New("the ledger or the zone of days was changed while the scans of a user were looked for: erase again")
	}
	until := c.state.Position
	if err := e.read(ctx, c, c.Log, after, until, false); err != nil {
		return 0, err
	}
	var b [8]byte
	if _, err := io.ReadFull(c.random(), b[:]); err != nil {
		return 0, fmt.Errorf("drawing a number: %w", err)
	}
	if err := c.replace(ctx, e.keys, e.names, e.user, binary.BigEndian.Uint64(b[:])); err != nil {
		return 0, fmt.Errorf("taking a user out of the counts: %w", err)
	}
	return until, nil
}

func (c *Counter) random() io.Reader {
	if c.Random != nil {
		return c.Random
	}
	return rand.Reader
}

// replace puts a number in the place of a user.
func (c *Counter) replace(ctx context.Context, keys map[UsersKey]bool, names map[CodeName]bool, user ledger.UserHash, by uint64) error {
	_, err := c.change(ctx, func(ctx context.Context, tx Tx, _ *State) error {
		for some := range slices.Chunk(slices.SortedFunc(maps.Keys(keys), UsersKey.Compare), usersAtOnce) {
			have, err := tx.UsersRows(ctx, some)
			if err != nil {
				return err
			}
			var changed []UsersRow
			for _, row := range have {
				s, err := DecodeSketch(row.Sketch)
				if err != nil {
					return err
				}
				if s.Replace(user, by) || s.registers != nil {
					row.Sketch, row.Erased = s.Encode(), row.Erased+1
					changed = append(changed, row)
				}
			}
			if err := tx.PutUsers(ctx, changed); err != nil {
				return err
			}
		}
		for some := range slices.Chunk(slices.SortedFunc(maps.Keys(names), CodeName.Compare), usersAtOnce) {
			have, err := tx.Codes(ctx, some)
			if err != nil {
				return err
			}
			var changed []CodeRow
			for _, row := range have {
				one, err := readCode(row)
				if err != nil {
					return err
				}
				if one.Users.Replace(user, by) || one.Users.registers != nil {
					one.Erased++
					if one.thereBy == uint32(userNumber(user)) {
						one.thereBy = uint32(by)
					}
					changed = append(changed, one.row())
				}
			}
			if err := tx.PutCodes(ctx, changed); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
