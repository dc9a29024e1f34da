package adminapi

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
)

// maxMarked is the maximum number of changes of each kind that are examined for chart marks.
const maxMarked = 100

// marks returns the changes of the rules and codes that a query covers, in order of time, for the period between from and to. The list is
// complete from the time since on; if since is zero, it is complete for the whole period.
func (a scanAPI) marks(ctx context.Context, q stats.Question, from, to time.Time) (list []client.ScanPosition, since time.Time, err error) {
	add := func(t time.Time, kind, subject string) {
		if !t.Before(from) && t.Before(to) {
			list = append(list, client.ScanPosition{OccurredAt: t, Kind: kind, Target: subject})
		}
	}
	isQueried := func(owner string) bool { return len(q.Owners) == 0 || slices.Contains(q.Owners, owner) }
	limited := func(i int, oldest time.Time) {
		if i == maxMarked-1 && oldest.After(from) && oldest.After(since) {
			since = oldest
		}
	}
	rule, ofRule := q.Filter[stats.Rule]
	batch, ofBatch := q.Filter[stats.Batch]
	changes := func(kind, did string, visit func(auditlog.Entry)) {
		if err != nil {
			return
		}
		newest := auditlog.Query{Newest: true, Kind: kind, Limit: 1}
		var found []auditlog.Entry
		if found, err = a.History.Entries(ctx, newest); len(found) > 0 && !found[0].OccurredAt.Before(from) {
			newest.Limit = maxMarked
			found, err = a.History.Entries(ctx, newest)
		}
		for i, e := range found {
			limited(i, e.OccurredAt)
			if e.Action == did {
				visit(e)
			}
		}
	}
	if !ofBatch {
		changes("rule", "publish", func(e auditlog.Entry) {
			var published struct {
				ID            int64
				Owner, Prefix string
			}
			if json.Unmarshal(e.Detail, &published) == nil && isQueried(published.Owner) &&
				(!ofRule || rule == strconv.FormatInt(published.ID, 10)) {
				add(e.OccurredAt, client.MarkPublished, published.Prefix)
			}
		})
	}
	if !ofRule {
		changes("codes", string(codes.Freeze), func(e auditlog.Entry) {
			id, wrong := strconv.ParseInt(e.Key, 10, 64)
			if b, known := a.Codes.Memory.Batch(id); wrong == nil && known && isQueried(b.Account) && (!ofBatch || batch == e.Key) {
				add(e.OccurredAt, client.MarkFrozen, e.Key)
			}
		})
		id, _ := strconv.ParseInt(batch, 10, 64) // an invalid batch number becomes 0; a query for such a batch matches 0 scans
		raised, wrong := a.Alarms.Alarms(ctx, alarms.Query{Newest: true, Owners: q.Owners, Batch: id, Limit: maxMarked})
		err = cmp.Or(err, wrong)
		for i, item := range raised {
			limited(i, item.CreatedAt)
			add(item.CreatedAt, client.MarkAlarm, client.Alarm{ApplicationID: item.Batch, CodeIndex: item.CodeIndex(),
				Prefix: item.Details.Prefix}.Name())
		}
	}
	slices.SortStableFunc(list, func(a, b client.ScanPosition) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return list, since, err
}
