package alarms

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Service stores the scan statistics of each code, and the alarms that result from them.
type Service struct {
	Store    Store
	Settings *settings.Live // contains the server's alarm threshold
	Now      func() time.Time
	Logger   *slog.Logger
	Places   Places // nil = the locations of networks are unknown
	// Redeemed reports whether a code is redeemed, from memory; nil = no code is redeemed.
	Redeemed func(CodeName) bool
	// Newest returns the newest batch whose code texts have a prefix or template; 0 = none, or batches of several accounts have it.
	Newest func(prefix string) int64

	proposals sync.Map // maps the number of a batch to its proposal
}

// proposal is a threshold proposed for a batch, as Propose returns it, and the time until which Propose returns it again.
type proposal struct {
	threshold int64
	codes     int
	until     time.Time
}

// CodeName identifies a code by its batch and index.
type CodeName struct{ Batch, Index int64 }

// Compare orders names.
func (n CodeName) Compare(o CodeName) int {
	return cmp.Or(cmp.Compare(n.Batch, o.Batch), cmp.Compare(n.Index, o.Index))
}

// Row holds the stored scan statistics of a code.
type Row struct {
	CodeName
	Scans          int64
	Users          int64     // distinct, see Scans
	FirstAt        time.Time // earliest time of a scan
	LastAt         time.Time // latest time of a scan
	Score          int64
	FirstScore     int64  // score of the scans in the first weeks, see Scans
	State          string // JSON of the statistics that have no column (codeState)
	SinceDismissal string // statistics of the scans since the last dismissal of an alarm; "" = no dismissal
	// Dismissed is the last time an alarm of the code was dismissed. Dismissed is stored with the alarm, and read together with the row.
	Dismissed time.Time
	Threshold int64 // alarm threshold of the batch; only WatchedCodes reads it
}

// Store is the persistence interface of Service.
type Store interface {
	// UpdateAlarms runs f in one transaction, possibly more than once; ViewAlarms runs f on a consistent snapshot, and f must not write.
	UpdateAlarms(ctx context.Context, f func(Tx) error) error
	ViewAlarms(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction on scan statistics and alarms.
type Tx interface {
	// Codes returns the rows of the given codes; codes without scans are absent from the map.
	Codes(ctx context.Context, names []CodeName) (map[CodeName]Row, error)
	PutCodes(ctx context.Context, rows []Row) error
	// AllCodes yields the rows of the codes between from (inclusive) and to (exclusive).
	AllCodes(ctx context.Context, from, to CodeName, yield func(Row) error) error

	// AddAlarm stores an alarm and assigns its ID. AddAlarm returns false if the code already has an open alarm of the same kind, or an
	// alarm was dismissed after the scan or, for alarms of a window, after the start of the window. With a negative ID, AddAlarm stores
	// that the prefix or user is in the state StateWatch, until it has an alarm; ForgetWatched removes what is older than a time.
	AddAlarm(ctx context.Context, a Alarm) (Alarm, bool, error)
	ForgetWatched(ctx context.Context, before time.Time) error
	// Alarms returns the alarms that match the query, oldest first unless the query sets Newest.
	Alarms(ctx context.Context, q Query) ([]Alarm, error)
	// UnacknowledgedAlarms returns the number of alarms of the owners' applications (empty = all) that are neither acknowledged nor
	// dismissed; the argument most is the number at which counting stops.
	UnacknowledgedAlarms(ctx context.Context, owners []string, most int) (int64, error)
	// StateChanges returns the state changes of alarms whose event numbers are greater than after, oldest first.
	StateChanges(ctx context.Context, after int64, limit int) ([]StateChange, error)
	// Alarm returns an open alarm of a code that is of the given kind or confirmed, or ErrNoAlarm.
	Alarm(ctx context.Context, name CodeName) (Alarm, error)
	// Alarmed returns the indexes of the codes in a range that have an open alarm, in ascending order.
	Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error)
	// Acknowledge stores the operator who acknowledged an alarm; it returns ErrNoAlarm if the alarm does not exist.
	Acknowledge(ctx context.Context, id int64, by string, at time.Time) (Alarm, error)
	// Annotate stores the note of an alarm; the note of a dismissed alarm stays unchanged.
	Annotate(ctx context.Context, id int64, note string) (Alarm, error)
	// LockCases serializes changes of cases and of their alarms until the transaction ends, so that a change of the alarms of a case does
	// not restore fields of the case that another transaction changes.
	LockCases(ctx context.Context) error
	// Assign stores the case of an alarm; 0 = none.
	Assign(ctx context.Context, id, caseID int64, at time.Time) (Alarm, error)
	// Cases returns the cases that match a query, newest first; Case returns ErrNoCase if the case does not exist.
	Cases(ctx context.Context, q CaseQuery) ([]Case, error)
	Case(ctx context.Context, id int64) (Case, error)
	// PutCase stores a case, and assigns an ID to a new one.
	PutCase(ctx context.Context, c Case) (Case, error)
	// AccountOf returns the account of a batch; "" = there is no such batch.
	AccountOf(ctx context.Context, batch int64) (string, error)
	// Decide stores the operator who confirmed or dismissed an alarm, and the reason; it returns ErrNoAlarm if the alarm does not exist.
	// An earlier dismissal and an equal decision stay unchanged.
	Decide(ctx context.Context, id int64, decision, by, note string, at time.Time) (Alarm, error)
	// ReplaceIndex replaces an index in the alarms of a kind.
	ReplaceIndex(ctx context.Context, kind string, from, to int64) error
	// Thresholds returns the alarm thresholds of the batches that have their own threshold; NoAlarm = no score raises an alarm.
	Thresholds(ctx context.Context, batches []int64) (map[int64]int64, error)
	// PutThreshold stores the alarm threshold of a batch; nil removes the stored threshold.
	PutThreshold(ctx context.Context, batch int64, threshold *int64) error
	// CodesScoring returns the codes of a batch that were scanned since the given time and have a score of at least score over all scans.
	// The result "scanned" is the number of all codes of the batch that were scanned since the given time.
	CodesScoring(ctx context.Context, batch, score int64, since time.Time) (list []Row, scanned int64, err error)
	// WatchedCodes returns the codes of a query's batches that have no open alarm and at least two thirds of the threshold of the batch or
	// else the given one, highest score first: q.Limit codes and, as a dismissal restarts the points, one more for each dismissed alarm.
	WatchedCodes(ctx context.Context, q Query, threshold int64) ([]Row, error)
	// FirstScores returns the first scores of the codes of a batch that were first scanned within a period after the first scan of the
	// batch, highest first. FirstScores considers only the limit codes with the lowest indexes that were scanned.
	FirstScores(ctx context.Context, batch int64, period time.Duration, limit int) ([]int64, error)
	// IsSpoiled reports whether a printer reported the code as destroyed.
	IsSpoiled(ctx context.Context, name CodeName) (bool, error)
	// FirstEvent returns the time at which the first event of a type on a code took effect; zero = there is none.
	FirstEvent(ctx context.Context, name CodeName, action codes.EventType) (time.Time, error)
}

// view runs f on a consistent snapshot and returns its result.
func view[T any](ctx context.Context, s *Service, f func(Tx) (T, error)) (T, error) {
	return accounts.Transact(ctx, s.Store.ViewAlarms, f)
}

// Code returns the scan statistics of a code; for a code without scans only the name is set.
func (s *Service) Code(ctx context.Context, name CodeName) (*Scans, error) {
	have, err := view(ctx, s, func(tx Tx) (map[CodeName]Row, error) { return tx.Codes(ctx, []CodeName{name}) })
	if row, ok := have[name]; ok && err == nil {
		return Read(row)
	}
	return &Scans{CodeName: name}, err
}

// Alarms returns the alarms that match a query, oldest first; with StateWatch, instead an alarm without ID for each code, prefix and user
// in this state, highest score first.
func (s *Service) Alarms(ctx context.Context, q Query) ([]Alarm, error) {
	return view(ctx, s, func(tx Tx) (list []Alarm, err error) {
		switch {
		case q.State != StateWatch:
			return tx.Alarms(ctx, q)
		case q.Case != 0 || q.Assignee != "" || q.Acknowledged == "true":
			return nil, nil // these conditions are about alarms
		}
		if list, err = tx.Alarms(ctx, q); err != nil { // prefixes and users of the last two hours
			return nil, err
		}
		hour := timebucket.Hour(s.Now())
		list = slices.DeleteFunc(list, func(a Alarm) bool { return timebucket.Hour(a.Details.WindowStart) != hour })
		for i := range list {
			list[i].ID = 0
		}
		rows, err := tx.WatchedCodes(ctx, q, s.serverThreshold())
		for _, row := range rows {
			c, err := Read(row)
			if err != nil {
				return nil, err
			}
			if score := int64(c.AlarmScore()); StateOf(nil, score, row.Threshold) == StateWatch {
				list = append(list, Alarm{Kind: Copied, CodeName: row.CodeName, CreatedAt: row.LastAt, Score: score,
					Details: c.alarmStatistics().details()})
			}
		}
		slices.SortStableFunc(list, func(a, b Alarm) int { return cmp.Compare(b.Score, a.Score) })
		return list[:min(len(list), q.Limit)], err
	})
}

// maxCounted is the number of alarms at which counting stops.
const maxCounted = 1000

// Unacknowledged returns the number of alarms of the owners' applications (empty = all) that are neither acknowledged nor dismissed;
// counting stops at maxCounted.
func (s *Service) Unacknowledged(ctx context.Context, owners []string) (int64, error) {
	return view(ctx, s, func(tx Tx) (int64, error) { return tx.UnacknowledgedAlarms(ctx, owners, maxCounted) })
}

// StateChanges returns the state changes of alarms whose event numbers are greater than start, oldest first.
func (s *Service) StateChanges(ctx context.Context, start int64, limit int) ([]StateChange, error) {
	return view(ctx, s, func(tx Tx) ([]StateChange, error) { return tx.StateChanges(ctx, start, limit) })
}

// Alarmed returns the indexes of the codes in a range that have an open alarm of any kind, in ascending order.
func (s *Service) Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error) {
	return view(ctx, s, func(tx Tx) ([]int64, error) { return tx.Alarmed(ctx, batch, r) })
}

// Alarm returns an open alarm of a code, which changes the page of the code for buyers. The error is ErrNoAlarm if there is none.
func (s *Service) Alarm(ctx context.Context, name CodeName) (Alarm, error) {
	return view(ctx, s, func(tx Tx) (Alarm, error) { return tx.Alarm(ctx, name) })
}

// Acknowledge stores the operator who acknowledged an alarm, and the changes of the acknowledgement. An earlier acknowledgement,
// confirmation or dismissal stays unchanged. Acknowledge returns ErrNoAlarm if the alarm does not exist, and
// ErrNoCase if its case does not exist or is not one of change.Owners.
func (s *Service) Acknowledge(ctx context.Context, id int64, actor string, change Acknowledgement) (a Alarm, err error) {
	err = s.Store.UpdateAlarms(ctx, func(tx Tx) error {
		if change.Case != nil {
			if err := tx.LockCases(ctx); err != nil {
				return err
			}
		}
		a, err = tx.Acknowledge(ctx, id, actor, s.Now())
		if err == nil && change.Case != nil {
			a, err = s.move(ctx, tx, a, *change.Case, change.Owners)
		}
		if err == nil && change.Note != nil {
			a, err = tx.Annotate(ctx, id, *change.Note)
		}
		if err == nil && change.Confirm {
			a, err = tx.Decide(ctx, id, Confirm, actor, a.Note, s.Now())
		}
		return err
	})
	s.proposals.Clear()
	return a, err
}

// Dismiss records that an operator has declared the code of an alarm genuine, with the operator's name and reason. An earlier dismissal
// stays unchanged. The product pages read the open alarms from the store, so a dismissal is visible on all nodes at once. After a dismissal
// only later scans can raise an alarm for the code. Dismiss returns ErrNoAlarm if the alarm does not exist.
func (s *Service) Dismiss(ctx context.Context, id int64, actor, note string) (Alarm, error) {
	defer s.proposals.Clear()
	return accounts.Transact(ctx, s.Store.UpdateAlarms, func(tx Tx) (Alarm, error) {
		return tx.Decide(ctx, id, Dismiss, actor, note, s.Now())
	})
}

// Count adds scans to the statistics of their codes, in the transaction that counts the scans, and raises the resulting alarms.
// Count returns the codes that had no scan before.
func (s *Service) Count(ctx context.Context, tx Tx, names []CodeName, scans func(CodeName) iter.Seq[*scanlog.Event], offset int64) (
	newCodes []CodeName, err error) {
	have, err := tx.Codes(ctx, names)
	if err != nil {
		return nil, err
	}
	thresholds, err := s.thresholds(ctx, tx, names)
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
			newCodes = append(newCodes, name)
		}
		if err := s.count(ctx, tx, item, scans(name), thresholds(name.Batch), offset); err != nil {
			return nil, err
		}
		changed = append(changed, item.row())
	}
	return newCodes, tx.PutCodes(ctx, changed)
}

// count adds scans to the statistics of one code.
func (s *Service) count(ctx context.Context, tx Tx, item *Scans, scans iter.Seq[*scanlog.Event], threshold, offset int64) error {
	if s.Redeemed != nil && s.Redeemed(item.CodeName) {
		var err error
		if item.redeemedAt, err = tx.FirstEvent(ctx, item.CodeName, codes.Redeem); err != nil {
			return err
		}
	}
	spoiledChecked, raised := false, [len(scoredKinds)]bool{}
	for e := range scans {
		item.Add(e, offset, s.Places)
		for i, k := range scoredKinds {
			if raised[i] || threshold == NoAlarm || !item.isAfterDismissal(e) {
				continue
			}
			score := int64(k.score(item.alarmStatistics()))
			if raised[i] = score >= threshold; !raised[i] {
				continue
			}
			// The code now has an open alarm, so further scans raise no second alarm of this kind.
			if err := s.raise(ctx, tx, k.kind, score, item, e); err != nil {
				return err
			}
		}
		if e.Reason != string(codes.IsVoid) || spoiledChecked {
			continue
		}
		spoiledChecked = true
		if spoiled, err := tx.IsSpoiled(ctx, item.CodeName); err != nil {
			return err
		} else if !spoiled {
			continue
		}
		if err := s.raise(ctx, tx, Spoiled, int64(item.AlarmScore()), item, e); err != nil {
			return err
		}
	}
	return nil
}

// Erase replaces the hash of a user by the given number in the scan statistics of the given codes, and in alarms about the user.
func Erase(ctx context.Context, tx Tx, names []CodeName, user scanlog.UserHash, number uint64) error {
	if err := tx.ReplaceIndex(ctx, ManyCodes, userIndex(user), subjectIndex(number)); err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, eraseChunk) {
		have, err := tx.Codes(ctx, chunk)
		if err != nil {
			return err
		}
		var changed []Row
		for _, row := range have {
			scans, err := Read(row)
			if err != nil {
				return err
			}
			if scans.replaceUser(user, number) {
				changed = append(changed, scans.row())
			}
		}
		if err := tx.PutCodes(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// eraseChunk is the maximum number of codes whose statistics are in memory at the same time.
const eraseChunk = 1000

// logMessages maps each kind of alarm to its log message.
var logMessages = map[string]string{Copied: "a code looks as if it was copied", Spoiled: "a code that a printer spoiled was scanned",
	BeforeActivation: "a code was scanned before its activation", AfterRedemption: "a code was scanned after its redemption",
	UnknownBurst: "many unknown texts of codes were scanned", ManyCodes: "a user scanned many codes"}

func (s *Service) raise(ctx context.Context, tx Tx, kind string, score int64, scans *Scans, e *scanlog.Event) error {
	if kind == BeforeActivation { // a code that was deactivated is not active either
		first, err := tx.FirstEvent(ctx, scans.CodeName, codes.Activate)
		if err != nil || !first.IsZero() && !first.After(e.OccurredAt) {
			return err
		}
	}
	return s.add(ctx, tx, Alarm{Kind: kind, CodeName: scans.CodeName, CreatedAt: e.OccurredAt, Scan: e.ID.String(),
		Score: score, Details: scans.alarmStatistics().details()})
}

// add stores an alarm, unless the code, prefix or user has an alarm of the kind already.
func (s *Service) add(ctx context.Context, tx Tx, a Alarm) error {
	a, added, err := tx.AddAlarm(ctx, a)
	if err == nil && added {
		s.Logger.WarnContext(ctx, logMessages[a.Kind], "application_id", a.Batch, "code_index", a.CodeIndex(), "score", a.Score,
			"alarm", a.ID)
	}
	return err
}

// NoAlarm is the threshold of a batch whose codes never raise alarms.
const NoAlarm = 0

// Threshold is the minimum score at which codes of a batch raise alarms.
type Threshold struct {
	Score           int64 // NoAlarm = no score raises an alarm
	HasOwnThreshold bool  // true = the batch has its own threshold; false = the server's threshold applies
}

// Threshold returns the minimum score at which codes of a batch raise alarms.
func (s *Service) Threshold(ctx context.Context, batch int64) (Threshold, error) {
	thresholds, err := view(ctx, s, func(tx Tx) (map[int64]int64, error) { return tx.Thresholds(ctx, []int64{batch}) })
	if score, chosen := thresholds[batch]; chosen {
		return Threshold{score, true}, err
	}
	return Threshold{Score: s.serverThreshold()}, err
}

func (s *Service) serverThreshold() int64 {
	if threshold := s.Settings.Get().AlarmThreshold; threshold != settings.Unlimited {
		return int64(threshold)
	}
	return NoAlarm
}

const (
	// firstWeeks is the period of the scans from which a threshold is proposed.
	firstWeeks = 28 * 24 * time.Hour
	// minProposalCodes is the number of codes from which a threshold is proposed: three of them may raise a false alarm.
	minProposalCodes, maxProposalCodes = 3000, 20_000
	// minProposal is the lowest threshold that docs/alarms.md recommends. Later scans add points to honest codes, too.
	minProposal = 85
)

// Propose returns the lowest threshold, in steps of five, with which at most one code in 1,000 of the batch would have raised an alarm of
// the kind Copied in the first weeks, and the number of codes from which it was computed; 0 = too few codes to tell. As Propose reads
// many rows, it returns the same proposal for a minute, unless this node confirms or dismisses an alarm.
func (s *Service) Propose(ctx context.Context, batch int64) (threshold int64, from int, err error) {
	if stored, _ := s.proposals.Load(batch); stored != nil && s.Now().Before(stored.(proposal).until) {
		return stored.(proposal).threshold, stored.(proposal).codes, nil
	}
	scores, err := view(ctx, s, func(tx Tx) ([]int64, error) { return tx.FirstScores(ctx, batch, firstWeeks, maxProposalCodes) })
	if err != nil {
		return 0, 0, err
	}
	if from = len(scores); from >= minProposalCodes {
		threshold = max(minProposal, scores[from/1000]/5*5+5)
	}
	s.proposals.Store(batch, proposal{threshold, from, s.Now().Add(time.Minute)})
	return threshold, from, nil
}

// SetThreshold sets the minimum score at which codes of a batch raise alarms; nil = the server's threshold. The new threshold applies to
// every scan that any node counts after the change.
func (s *Service) SetThreshold(ctx context.Context, batch int64, score *int64) error {
	return s.Store.UpdateAlarms(ctx, func(tx Tx) error { return tx.PutThreshold(ctx, batch, score) })
}

// thresholds reads the thresholds of the batches in names, and returns a function that returns the threshold of a batch. The
// thresholds are read in the transaction that counts the scans, so a change on any node applies at once.
func (s *Service) thresholds(ctx context.Context, tx Tx, names []CodeName) (lookup func(batch int64) int64, err error) {
	var batches []int64
	for _, name := range names {
		if n := len(batches); n == 0 || batches[n-1] != name.Batch {
			batches = append(batches, name.Batch)
		}
	}
	thresholds, err := tx.Thresholds(ctx, batches)
	server := s.serverThreshold()
	return func(batch int64) int64 {
		if score, chosen := thresholds[batch]; chosen {
			return score
		}
		return server
	}, err
}
