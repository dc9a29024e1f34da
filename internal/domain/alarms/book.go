package alarms

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Book keeps what is known of the scans of each code, and the alarms that they give rise to.
type Book struct {
	Store    Store
	Settings *settings.Live // the score from which on codes raise alarms
	Now      func() time.Time
	Logger   *slog.Logger
	Places   Places // nil = it is not known where networks are
}

// CodeName names a code.
type CodeName struct{ Batch, Index int64 }

// Compare orders names.
func (n CodeName) Compare(o CodeName) int {
	return cmp.Or(cmp.Compare(n.Batch, o.Batch), cmp.Compare(n.Index, o.Index))
}

// Row is the stored state of a code's scans.
type Row struct {
	CodeName
	Scans   int64
	Users   int64     // distinct, see Scans
	FirstAt time.Time // of the scan that came first in the ledger
	LastAt  time.Time // the latest
	Score   int64
	State   string // the rest, see Scans
	Since   string // the same of the scans since an alarm was dismissed; "" = none
	// Dismissed is the time at which an alarm of the code was last dismissed. It is read with the row, and stored with the alarm.
	Dismissed time.Time
}

// Store keeps what is known of codes.
type Store interface {
	// UpdateAlarms runs f in one transaction, perhaps more than once, and ViewAlarms on a consistent state that f does
	// not change.
	UpdateAlarms(ctx context.Context, f func(context.Context, Tx) error) error
	ViewAlarms(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction on what is known of codes.
type Tx interface {
	// Codes returns what is known of codes; one without scans is left out.
	Codes(ctx context.Context, names []CodeName) (map[CodeName]Row, error)
	PutCodes(ctx context.Context, rows []Row) error
	// AllCodes yields what is known of the codes from one up to but without another.
	AllCodes(ctx context.Context, from, to CodeName, yield func(Row) error) error

	// AddAlarm stores an alarm and gives it its number. It returns false where an alarm of this
	// kind stands for the code already, or was dismissed after the scan.
	AddAlarm(ctx context.Context, a Alarm) (Alarm, bool, error)
	// Alarms returns alarms, oldest first unless the query says otherwise.
	Alarms(ctx context.Context, q Query) ([]Alarm, error)
	// OpenAlarms returns the number of alarms that are neither acknowledged nor dismissed, of applications of some accounts, none =
	// of any; it stops counting at most.
	OpenAlarms(ctx context.Context, owners []string, most int) (int64, error)
	// News returns what happened to alarms after a number, oldest first.
	News(ctx context.Context, after int64, limit int) ([]News, error)
	// Alarm returns the alarm of a kind that stands for a code, ErrNoAlarm where none does.
	Alarm(ctx context.Context, kind string, name CodeName) (Alarm, error)
	// Alarmed returns the indexes of the codes of a range for which an alarm stands, in order.
	Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error)
	// Acknowledge notes who has seen an alarm; ErrNoAlarm where there is none.
	Acknowledge(ctx context.Context, id int64, by string, at time.Time) (Alarm, error)
	// Dismiss notes who said that the code of an alarm is no copy, and why; ErrNoAlarm where there
	// is none. An earlier dismissal stays as it is.
	Dismiss(ctx context.Context, id int64, by, note string, at time.Time) (Alarm, error)
	// Thresholds returns the scores from which on codes raise alarms, for those of the batches that
	// have a threshold of their own; NoAlarm = no score is enough.
	Thresholds(ctx context.Context, batches []int64) (map[int64]int64, error)
	// PutThreshold stores the threshold of a batch; nil removes it.
	PutThreshold(ctx context.Context, batch int64, threshold *int64) error
	// CodesScoring returns the codes of a batch that were scanned since a moment and whose score,
	// by all their scans, is at least score. It also returns how many codes were scanned since
	// then.
	CodesScoring(ctx context.Context, batch, score int64, since time.Time) (list []Row, scanned int64, err error)
	// Spoiled reports whether a printer said that it destroyed a code.
	Spoiled(ctx context.Context, name CodeName) (bool, error)
}

// view answers from a consistent state.
func view[T any](ctx context.Context, b *Book, f func(Tx) (T, error)) (answer T, err error) {
	err = b.Store.ViewAlarms(ctx, func(tx Tx) (err error) {
		answer, err = f(tx)
		return err
	})
	return answer, err
}

// Code returns the state of a code's scans; without scans it is the zero value with the code's name.
func (b *Book) Code(ctx context.Context, name CodeName) (*Scans, error) {
	have, err := view(ctx, b, func(tx Tx) (map[CodeName]Row, error) { return tx.Codes(ctx, []CodeName{name}) })
	if row, ok := have[name]; ok && err == nil {
		return Read(row)
	}
	return &Scans{CodeName: name}, err
}

// Alarms returns the alarms that a query wants, oldest first.
func (b *Book) Alarms(ctx context.Context, q Query) ([]Alarm, error) {
	return view(ctx, b, func(tx Tx) ([]Alarm, error) { return tx.Alarms(ctx, q) })
}

// mostOpen is the number at which counting open alarms stops.
const mostOpen = 1000

// Open returns the number of alarms that are neither acknowledged nor dismissed, of applications of some accounts, none = of any;
// it stops at mostOpen.
func (b *Book) Open(ctx context.Context, owners []string) (int64, error) {
	return view(ctx, b, func(tx Tx) (int64, error) { return tx.OpenAlarms(ctx, owners, mostOpen) })
}

// News returns what happened to alarms after a number, oldest first.
func (b *Book) News(ctx context.Context, start int64, limit int) ([]News, error) {
	return view(ctx, b, func(tx Tx) ([]News, error) { return tx.News(ctx, start, limit) })
}

// Alarmed returns the indexes of the codes of a range for which an alarm of any kind stands, in order.
func (b *Book) Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error) {
	return view(ctx, b, func(tx Tx) ([]int64, error) { return tx.Alarmed(ctx, batch, r) })
}

// Alarm returns the alarm that stands for a code because it looks copied, acknowledged
// or not; ErrNoAlarm where none does.
func (b *Book) Alarm(ctx context.Context, name CodeName) (Alarm, error) {
	return view(ctx, b, func(tx Tx) (Alarm, error) { return tx.Alarm(ctx, Copied, name) })
}

// Acknowledge notes who has seen an alarm; an earlier note stays as it is. ErrNoAlarm where there
// is none.
func (b *Book) Acknowledge(ctx context.Context, id int64, actor string) (a Alarm, err error) {
	err = b.Store.UpdateAlarms(ctx, func(ctx context.Context, tx Tx) error {
		a, err = tx.Acknowledge(ctx, id, actor, b.Now())
		return err
	})
	return a, err
}

// Dismiss notes that the code of an alarm is no copy after all, who says so, and why. An earlier
// dismissal stays as it is. The pages of buyers read from the store which alarms stand, so all
// nodes know it at once. Only later scans can raise an alarm for the code again. ErrNoAlarm where
// there is none.
func (b *Book) Dismiss(ctx context.Context, id int64, actor, note string) (a Alarm, err error) {
	err = b.Store.UpdateAlarms(ctx, func(ctx context.Context, tx Tx) error {
		a, err = tx.Dismiss(ctx, id, actor, note, b.Now())
		return err
	})
	return a, err
}

// Count adds scans to what is known of their codes, in the transaction that counts them, and raises the alarms that
// they give rise to. It returns the codes that had no scan before.
func (b *Book) Count(ctx context.Context, tx Tx, names []CodeName, scans func(CodeName) iter.Seq[*scanlog.Event], offset int64) (
	codeNames []CodeName, err error) {
	have, err := tx.Codes(ctx, names)
	if err != nil {
		return nil, err
	}
	thresholds, err := b.thresholds(ctx, tx, names)
	if err != nil {
		return nil, err
	}
	changed := make([]Row, 0, len(names))
	for _, name := range names {
		item := &Scans{CodeName: name}
		if row, ok := have[name]; ok {
			if item, err = Read(row); err != nil {
				return nil, err
			}
		}
		if item.Scans == 0 {
			codeNames = append(codeNames, name)
		}
		if err := b.count(ctx, tx, item, scans(name), thresholds(name.Batch), offset); err != nil {
			return nil, err
		}
		changed = append(changed, item.row())
	}
	return codeNames, tx.PutCodes(ctx, changed)
}

// count adds scans to one code.
func (b *Book) count(ctx context.Context, tx Tx, item *Scans, scans iter.Seq[*scanlog.Event], threshold, offset int64) error {
	asked, raised := false, false
	for e := range scans {
		item.Add(e, offset, b.Places)
		if !raised && threshold != NoAlarm && item.canAlarm(e) && int64(item.AlarmScore()) >= threshold {
			raised = true // raised now, or it stands already
			if err := b.raise(ctx, tx, Copied, item, e); err != nil {
				return err
			}
		}
		if e.Reason != string(codes.IsVoid) || asked {
			continue
		}
		asked = true
		if spoiled, err := tx.Spoiled(ctx, item.CodeName); err != nil {
			return err
		} else if !spoiled {
			continue
		}
		if err := b.raise(ctx, tx, Spoiled, item, e); err != nil {
			return err
		}
	}
	return nil
}

// Erase puts a number in the place of a user in what is known of some codes.
func Erase(ctx context.Context, tx Tx, names []CodeName, user scanlog.UserHash, step uint64) error {
	for codeNames := range slices.Chunk(names, codesAtOnce) {
		have, err := tx.Codes(ctx, codeNames)
		if err != nil {
			return err
		}
		var changed []Row
		for _, row := range have {
			scans, err := Read(row)
			if err != nil {
				return err
			}
			if scans.replaceUser(user, step) {
				changed = append(changed, scans.row())
			}
		}
		if err := tx.PutCodes(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// codesAtOnce bounds how many codes are in memory together.
const codesAtOnce = 1000

// alarmed is the log message for each kind of alarm.
var alarmed = map[string]string{Copied: "a code looks as if it was copied", Spoiled: "a code that a printer spoiled was scanned"}

func (b *Book) raise(ctx context.Context, tx Tx, kind string, scans *Scans, e *scanlog.Event) error {
	a, fresh, err := tx.AddAlarm(ctx, Alarm{Kind: kind, CodeName: scans.CodeName, At: e.At, Scan: e.ID.String(),
		Score: int64(scans.AlarmScore()), Why: scans.judged().reasons()})
	if err == nil && fresh {
		b.Logger.WarnContext(ctx, alarmed[kind], "application_id", a.Batch, "code_index", a.Index, "score", a.Score, "alarm", a.ID)
	}
	return err
}

// NoAlarm is the threshold that no score reaches.
const NoAlarm = 0

// Threshold is the score from which on codes of a batch raise alarms.
type Threshold struct {
	Score int64 // NoAlarm = no score is enough
	Own   bool  // the batch has its own; otherwise it is the server's
}

// Threshold says from which score on codes of a batch raise alarms.
func (b *Book) Threshold(ctx context.Context, batch int64) (Threshold, error) {
	ownCounts, err := view(ctx, b, func(tx Tx) (map[int64]int64, error) { return tx.Thresholds(ctx, []int64{batch}) })
	if score, chosen := ownCounts[batch]; chosen {
		return Threshold{score, true}, err
	}
	return Threshold{Score: b.serverThreshold()}, err
}

func (b *Book) serverThreshold() int64 { return int64(b.Settings.Get().AlarmThreshold) }

// SetThreshold chooses the score from which on codes of a batch raise alarms; nil = that of the
// server. It holds for every scan that any node counts from then on.
func (b *Book) SetThreshold(ctx context.Context, batch int64, score *int64) error {
	return b.Store.UpdateAlarms(ctx, func(ctx context.Context, tx Tx) error { return tx.PutThreshold(ctx, batch, score) })
}

// thresholds finds the threshold for each of some codes, in their order. It reads them in the
// transaction that counts, so that a choice of an operator on any node holds here.
func (b *Book) thresholds(ctx context.Context, tx Tx, names []CodeName) (lookup func(batch int64) int64, err error) {
	var batches []int64
	for _, name := range names {
		if n := len(batches); n == 0 || batches[n-1] != name.Batch {
			batches = append(batches, name.Batch)
		}
	}
	ownCounts, err := tx.Thresholds(ctx, batches)
	server := b.serverThreshold()
	return func(batch int64) int64 {
		if score, chosen := ownCounts[batch]; chosen {
			return score
		}
		return server
	}, err
}
