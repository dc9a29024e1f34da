package stats

import (
	"context"
)

// NoAlarm is the threshold that no score reaches.
const NoAlarm = 0

// Threshold is the score from which codes of a batch are alarmed.
type Threshold struct {
	Score int64 // NoAlarm = no score is enough
	Own   bool  // it is of the batch, and not of the server
}

// Threshold says from which score on codes of a batch are alarmed.
func (c *Counter) Threshold(ctx context.Context, batch int64) (Threshold, error) {
	own, err := view(ctx, c, func(tx Tx) (map[int64]int64, error) { return tx.Thresholds(ctx, []int64{batch}) })
	if score, chosen := own[batch]; chosen {
		return Threshold{score, true}, err
	}
	return Threshold{Score: c.serverThreshold()}, err
}

func (c *Counter) serverThreshold() int64 { return int64(c.Settings.Get().AlarmThreshold) }

// SetThreshold chooses the score from which codes of a batch are alarmed; nil = that of
// the server. It counts for every scan that is counted from then on, on any node.
func (c *Counter) SetThreshold(ctx context.Context, batch int64, score *int64) error {
	return c.Store.UpdateStatistics(ctx, func(ctx context.Context, tx Tx) error { return tx.PutThreshold(ctx, batch, score) })
}

// thresholds finds those of the batches of some codes, in their order. They are read in
// the transaction that counts: what an operator chose on any node counts here.
func (c *Counter) thresholds(ctx context.Context, tx Tx, names []CodeName) (of func(batch int64) int64, err error) {
	var batches []int64
	for _, name := range names {
		if n := len(batches); n == 0 || batches[n-1] != name.Batch {
			batches = append(batches, name.Batch)
		}
	}
	own, err := tx.Thresholds(ctx, batches)
	server := c.serverThreshold()
	return func(batch int64) int64 {
		if score, chosen := own[batch]; chosen {
			return score
		}
		return server
	}, err
}
