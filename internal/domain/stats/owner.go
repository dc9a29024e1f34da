package stats

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// OwnerNumber returns the number that identifies an owner in rows of counts, stored in place of a rule ID: 63 bits of a hash, 0 =
// none. The numbers are stored in the database, so the hash function must never change.
func OwnerNumber(appid string) int64 {
	if appid == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(appid))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// owner is the account that a scan belongs to.
type owner struct {
	number int64 // see OwnerNumber
	name   string
}

// rulesTogether is the number of consecutive rule IDs whose owners are read in one query.
const rulesTogether = 1024

// maxRuleBlocks is the maximum number of cached blocks of rule owners, which take 64 MiB.
const maxRuleBlocks = 16_384

// owners caches the owners of rules and of applications, which never change.
type owners struct {
	mu      sync.Mutex
	rules   map[int64]*[rulesTogether]uint32 // indexes into the field all; 0 = unknown
	batches map[int64]uint32
	numbers map[string]uint32
	all     []owner
}

func (o *owners) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rules, o.batches, o.numbers, o.all = nil, nil, nil, nil
}

// number returns the index of an owner in owners.all.
func (o *owners) number(name string) uint32 {
	n, known := o.numbers[name]
	if !known {
		if o.numbers == nil {
			o.numbers, o.all = map[string]uint32{}, []owner{{}}
		}
		n = uint32(len(o.all))
		o.numbers[name], o.all = n, append(o.all, owner{OwnerNumber(name), name})
	}
	return n
}

// Owner returns the account that a scan belongs to: the owner of the rule, or the applicant of the code's application; "" = none,
// or unknown.
func (c *Aggregator) Owner(ctx context.Context, rule, batch int64) (string, error) {
	o, err := c.owner(ctx, rule, batch)
	return o.name, err
}

func (c *Aggregator) owner(ctx context.Context, rule, batch int64) (item owner, err error) {
	if rule == 0 && batch == 0 {
		return item, nil
	}
	o := &c.owners
	o.mu.Lock()
	defer o.mu.Unlock()
	if rule != 0 {
		return c.ownerOfRule(ctx, o, rule)
	}
	n, known := o.batches[batch]
	if !known {
		name, err := view(ctx, c, func(tx Tx) (string, error) { return tx.AccountOf(ctx, batch) })
		if err != nil {
			return item, fmt.Errorf("reading the owner of application %d: %w", batch, err)
		}
		if o.batches == nil || len(o.batches) >= maxKnown {
			o.batches = map[int64]uint32{}
		}
		n = o.number(name)
		o.batches[batch] = n
	}
	return o.all[n], nil
}

func (c *Aggregator) ownerOfRule(ctx context.Context, o *owners, rule int64) (item owner, err error) {
	key, pos := rule/rulesTogether, rule%rulesTogether
	block := o.rules[key]
	if block == nil {
		first := key * rulesTogether
		names, err := view(ctx, c, func(tx Tx) (map[int64]string, error) { return tx.RuleOwners(ctx, first, first+rulesTogether) })
		if err != nil {
			return item, fmt.Errorf("reading the owners of rules: %w", err)
		}
		if o.rules == nil || len(o.rules) >= maxRuleBlocks {
			o.rules = map[int64]*[rulesTogether]uint32{}
		}
		block = &[rulesTogether]uint32{}
		o.rules[key] = block
		for id, name := range names {
			block[id-first] = o.number(name)
		}
	}
	if block[pos] == 0 { // the rule was added after the block was read, or is unknown
		name, err := view(ctx, c, func(tx Tx) (string, error) { return tx.RuleOwner(ctx, rule) })
		if err != nil {
			return item, fmt.Errorf("reading the owner of rule %d: %w", rule, err)
		}
		block[pos] = o.number(name)
	}
	return o.all[block[pos]], nil
}
