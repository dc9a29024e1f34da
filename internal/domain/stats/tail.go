package stats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// readUsers reads from the log the users that are missing in the stored sketches. Whenever the users in memory reach their limit, readUsers
// stores them and continues.
func (c *Aggregator) readUsers(ctx context.Context) error {
	for {
		c.tail = newTail()
		reached := c.state.CountedOffset
		err := c.readTail(ctx, c.state, func(e *scanlog.Entry) (bool, error) {
			g, err := c.group(ctx, &e.Event)
			if err != nil {
				return false, err
			}
			o, err := c.owner(ctx, e.RuleID, e.Batch)
			if err != nil {
				return false, err
			}
			c.tail.add(timebucket.Day(timebucket.Hour(e.OccurredAt), c.state.Offset), g, o.name, &e.Event)
			if c.tail.isFull() {
				reached = e.Position
			}
			return !c.tail.isFull(), nil
		})
		if err != nil || reached == c.state.CountedOffset {
			return err
		}
		if err := c.foldUpTo(ctx, reached); err != nil {
			return err
		}
	}
}

// readTail calls visit with the counted events after SketchOffset, whose users may be missing in the sketches, until visit returns false.
// It returns an error if the scan log ends before the counted position.
func (c *Aggregator) readTail(ctx context.Context, s State, visit func(*scanlog.Entry) (bool, error)) error {
	if s.SketchOffset >= s.CountedOffset {
		return nil
	}
	if err := scanlog.CheckEnd(ctx, c.Log, s.LogID, s.CountedOffset); err != nil {
		return err
	}
	for e, err := range c.Log.Read(ctx, s.SketchOffset) {
		if err != nil {
			return fmt.Errorf("reading scans after offset %d: %w", s.SketchOffset, err)
		}
		if e.Position > s.CountedOffset {
			break
		}
		if hasMore, err := visit(&e); err != nil || !hasMore {
			return err
		}
	}
	return nil
}

// tail holds the users of scans that are not in the stored sketches yet. Each user is stored once for the rule, and once for the
// group of all other dimensions. The dimensions of a group are separated when the sketches are written.
type tail struct {
	rules  map[ruleDay]*hyperloglog.Users
	groups map[groupDay]*hyperloglog.Users
	owners map[int64]string // by rule ID
	events int64
	bytes  int
}

type ruleDay struct{ day, rule int64 }

type groupDay struct {
	day int64
	*group
}

func newTail() *tail {
	return &tail{rules: map[ruleDay]*hyperloglog.Users{}, groups: map[groupDay]*hyperloglog.Users{}, owners: map[int64]string{}}
}

func (t *tail) isFull() bool {
	return t.events >= maxTail || len(t.rules)+len(t.groups) >= maxSketchesHeld || t.bytes >= maxTailBytes
}

func (t *tail) add(day int64, g *group, owner string, e *scanlog.Event) {
	t.events++
	if e.User == (scanlog.UserHash{}) {
		return
	}
	n := hyperloglog.Number(e.User)
	rule := t.rules[ruleDay{day, e.RuleID}]
	if rule == nil {
		rule = &hyperloglog.Users{}
		t.rules[ruleDay{day, e.RuleID}], t.owners[e.RuleID] = rule, owner
	}
	if g.Batch != 0 {
		g.owner = owner
	}
	users := t.groups[groupDay{day, g}]
	if users == nil {
		users = &hyperloglog.Users{}
		t.groups[groupDay{day, g}] = users
	}
	for _, s := range [...]*hyperloglog.Users{rule, users} {
		prev := s.Size()
		if s.AddNumber(n) {
			t.bytes += s.Size() - prev
		}
	}
}

// visitUsers calls visit with the users of each day and value of a dimension; some values are passed in several calls.
func (t *tail) visitUsers(d Dimension, visit func(day int64, value string, s *hyperloglog.Users)) {
	for k, s := range t.rules {
		switch {
		case d == Rule:
			visit(k.day, number(k.rule), s)
		case d == Owner && k.rule != 0 && t.owners[k.rule] != "":
			visit(k.day, t.owners[k.rule], s)
		}
	}
	for k, s := range t.groups {
		switch {
		case d.Combined():
			visit(k.day, k.Value(d), s)
		case d == Owner && k.owner != "":
			visit(k.day, k.owner, s)
		}
	}
}

// sketches returns the sketches of the users, by their storage keys.
func (t *tail) sketches() map[UsersKey]*hyperloglog.Users {
	all := make(map[UsersKey]*hyperloglog.Users, len(t.rules)+len(t.groups))
	for d := range Dims {
		parts := map[UsersKey][]*hyperloglog.Users{}
		t.visitUsers(d, func(day int64, value string, s *hyperloglog.Users) {
			key := UsersKey{Day: day, Dimension: d, Value: value}
			parts[key] = append(parts[key], s)
		})
		for key, part := range parts {
			all[key] = hyperloglog.Merged(part)
		}
	}
	return all
}

// fold adds the users in c.tail to the stored sketches, up to the stored position. It may be called only when no counts are pending. If
// need is false, fold writes the sketches at most once a minute.
func (c *Aggregator) fold(ctx context.Context, need bool) error {
	if c.tail.events == 0 {
		return nil
	}
	if now := c.Now(); !need && now.Sub(c.foldedAt).Abs() < time.Minute {
		return nil
	}
	return c.foldUpTo(ctx, c.state.CountedOffset)
}

// foldUpTo writes all users in c.tail to the sketches, which are then complete up to the position.
func (c *Aggregator) foldUpTo(ctx context.Context, position int64) error {
	sketches := c.tail.sketches()
	c.settleLarge(sketches)
	var large map[UsersKey]tailSize
	state, err := c.change(ctx, func(tx Tx, s *State) (err error) {
		if s.LogID != c.state.LogID || s.CountedOffset != c.state.CountedOffset || s.SketchOffset != c.state.SketchOffset {
			return errMoved
		}
		s.SketchOffset = position
		large, err = c.mergeUsers(ctx, tx, s.placeUsers(sketches))
		return err
	})
	if err != nil {
		c.loaded = c.loaded && !errors.Is(err, errMoved)
		return fmt.Errorf("storing distinct users: %w", err)
	}
	c.state, c.tail, c.foldedAt, c.large = state, newTail(), c.Now(), large
	return nil
}

// tailSize is the size of the additions to a large sketch.
type tailSize struct{ rows, bytes int }

const (
	// A large sketch, of up to 128 KiB, is rewritten when its additions reach these limits.
	maxSinceRows  = 64
	maxSinceBytes = 64 << 10
	// maxLarge is the maximum number of large sketches whose tailSize is held in memory.
	maxLarge = 20_000
)

// settleLarge ensures that each large sketch of a past day is rewritten once, together with its additions.
func (c *Aggregator) settleLarge(sketches map[UsersKey]*hyperloglog.Users) {
	newest := int64(math.MinInt64)
	for key := range sketches {
		newest = max(newest, key.Day)
	}
	for key, size := range c.large {
		switch {
		case key.Day >= newest-1 && len(c.large) < maxLarge:
		case size.rows > 0 && sketches[key] == nil:
			sketches[key] = &hyperloglog.Users{}
			fallthrough
		default:
			delete(c.large, key)
		}
	}
}

// mergeUsers adds users to the stored sketches, and returns the sketches that are large afterwards.
func (c *Aggregator) mergeUsers(ctx context.Context, tx Tx, sketches map[UsersKey]*hyperloglog.Users) (
	large map[UsersKey]tailSize, err error) {
	if large = maps.Clone(c.large); large == nil {
		large = map[UsersKey]tailSize{}
	}
	var extraSinces []UsersSince
	keys := slices.DeleteFunc(slices.SortedFunc(maps.Keys(sketches), UsersKey.Compare), func(key UsersKey) bool {
		size, is := large[key]
		if !is || size.rows >= maxSinceRows {
			return false
		}
		text := sketches[key].Changes()
		if size.bytes += len(text); size.bytes > maxSinceBytes {
			return false
		}
		extraSinces = append(extraSinces, UsersSince{key, size.rows, text})
		size.rows++
		large[key] = size
		return true
	})
	if err := tx.AddUsers(ctx, extraSinces); err != nil {
		return nil, err
	}
	for usersKeys := range slices.Chunk(keys, usersAtOnce) {
		have, err := tx.UsersRows(ctx, usersKeys)
		if err != nil {
			return nil, err
		}
		changed := make([]UsersRow, 0, len(usersKeys))
		for _, key := range usersKeys {
			row := have[key]
			s, err := row.Merged()
			if err != nil {
				return nil, err
			}
			s.Merge(*sketches[key])
			row.UsersKey, row.Users, row.Sketch = key, s.Count(), s.Encode()
			changed = append(changed, row)
			delete(large, key)
			if row.Large() {
				large[key] = tailSize{}
			}
		}
		if err := tx.PutUsers(ctx, changed); err != nil {
			return nil, err
		}
	}
	return large, nil
}
