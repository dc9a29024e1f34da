package codes

import (
	"cmp"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// Feature is the name of the permission that a service account needs for codes.
const Feature = "marketcode"

// Service implements the operations on codes.
type Service struct {
	Store    Store
	Memory   *Memory
	Keys     Keys
	Vault    *sealer.Key
	OpenIDs  *accounts.OpenIDs
	Settings *settings.Live
	Now      func() time.Time
	// CountNow returns the time used for the daily limit of applications; nil = Now.
	CountNow func() time.Time
	// ClockBelieved reports whether Now is reliable enough to delete long-expired rows; nil = always.
	ClockBelieved func() bool
	Random        io.Reader

	// Prefix is the prefix of all new code texts.
	Prefix string
	// Closed rejects applications until the operator has set a prefix: codes with the Weixin platform's own prefix could be scanned
	// only with Weixin.
	Closed bool
	// Floor and ByTime keep new counters above all counters that the server issued after the backup from which it was restored.
	Floor  uint64
	ByTime bool
	// Shared reports that other processes write to the store: then an API call reads their changes before it returns the state of a code.
	Shared bool
	// Changed is called after a batch changed, before the change is acknowledged.
	Changed func(ctx context.Context, batch int64)
	// MatchRule returns the prefix of the published jump rule that matches a text; nil = there are no rules.
	MatchRule func(text string) (prefix string, ok bool)

	ticketCache    ticketCache
	ticketHashOnce sync.Once
	ticketHasher   *sealer.Hasher
	importKeysOnce sync.Once
	importCipher   cipher.Block
	tokenCipher    cipher.Block
	tokenHasher    *sealer.Hasher
}

// CheckPermission returns 48001 unless the account is allowed to use codes. Contract: marketcode §1.
func CheckPermission(a accounts.Account) error {
	switch {
	case a.Kind != accounts.ServiceAccount:
		return errcode.Unauthorized.WithDetail(behaviour.CallerKind, "%s is a %s: codes belong to service accounts", a.AppID, a.Kind)
	case !a.Certified:
		return errcode.Unauthorized.WithDetail(behaviour.CallerUncertified, "service account %s is not certified", a.AppID)
	case !slices.Contains(a.Features, Feature):
		return errcode.Unauthorized.WithDetail(behaviour.CodesGrant, "service account %s was not granted the feature %s", a.AppID, Feature)
	}
	return nil
}

func (s *Service) countNow() time.Time {
	if s.CountNow == nil {
		return s.Now()
	}
	return s.CountNow()
}

// canDeleteExpired reports whether long-expired rows may be deleted.
func (s *Service) canDeleteExpired() bool { return s.ClockBelieved == nil || s.ClockBelieved() }

// maxBatchID keeps IDs below 2^31, because some clients read them as 32-bit numbers.
const maxBatchID = 1<<31 - 1

// Apply creates an application for codes. A call with the isv_application_id, count and text of an existing application returns this
// application. Apply returns 40097 for invalid parameters, 45009 above the daily limit, 48001 without permission or approval, or 80307 if
// the isv_application_id belongs to an application with another count or text. Contract: marketcode §3.1.
func (s *Service) Apply(ctx context.Context, caller accounts.Account, a Application) (Batch, error) {
	if err := CheckPermission(caller); err != nil {
		return Batch{}, err
	}
	if s.Closed {
		return Batch{}, errcode.Unauthorized.WithDetail(behaviour.CodesPrefix,
			"codes cannot be downloaded until --code-prefix is a prefix of your own: %s is resolved by Weixin only", DefaultPrefix)
	}
	cfg := s.Settings.Get()
	if err := a.check(cfg.MaxCodesPerApplication); err != nil {
		return Batch{}, err
	}
	if a.Count > settings.Platform.MaxCodesPerApplication && !a.Approved {
		if err := cfg.NoteOrRefuse(ctx, behaviour.CodesApplyAbove, "code_count is %d", a.Count); err != nil {
			return Batch{}, err
		}
	}
	var batch Batch
	err := s.Store.UpdateCodes(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, caller.AppID); err != nil {
			return err
		}
		if _, err := accounts.Keep(ctx, tx, caller.AppID); err != nil {
			return err
		}
		now := s.Now()
		// Every call is counted, including a repeated call. Contract: marketcode §1.
		used, err := tx.AddCount(ctx, caller.AppID, "/intp/marketcode/applycode", cfg.Day(s.countNow()))
		if err != nil {
			return err
		}
		if used > AppliesPerDay {
			return errcode.DailyLimit.WithDetail(behaviour.CodesApplyDay, "%s called applycode %d times today", caller.AppID, AppliesPerDay)
		}
		batch, err = tx.BatchByISV(ctx, caller.AppID, a.ISV)
		if err == nil {
			if batch.Count != a.Count {
				return errcode.ApplicationExists.WithDetail(behaviour.CodesApplyOther,
					"isv_application_id %q is application %d with %d codes, not %d", a.ISV, batch.ID,
					batch.Count, a.Count)
			}
			if batch.Template != a.Template {
				return errcode.ApplicationExists.WithDetail(behaviour.CodesApplyOther,
					"isv_application_id %q is application %d with another text", a.ISV, batch.ID)
			}
			behaviour.Note(ctx, behaviour.CodesApplyAgain)
			if cfg.Refuses(behaviour.CodesApplyAgain) {
				return errcode.Strict(behaviour.CodesApplyAgain, "isv_application_id %q is application %d already", a.ISV, batch.ID)
			}
			return nil
		}
		if !errors.Is(err, ErrNoBatch) {
			return err
		}
		if cfg.OrderApprovalRequired && !a.Approved && !cfg.AllowUnapprovedApplycode {
			return errcode.Unauthorized.WithDetail(behaviour.CodesApplyApproval, "codes are ordered and approved by two people (setting "+
				"order_approval_required): order isv_application_id %q in the console or with batch apply --for-approval, or turn on "+
				"allow_unapproved_applycode",
				a.ISV)
		}
		batch = Batch{Account: caller.AppID, ISV: a.ISV, Count: a.Count, Prefix: s.Prefix, Version: s.Keys.Current,
			Segment: cfg.CodeSegmentSize, CreatedAt: now, Template: a.Template}
		return s.allocate(ctx, tx, &batch)
	})
	if err == nil {
		s.awaitMemory(ctx, batch.ID)
	}
	return batch, err
}

// allocate allocates a block of counters for a batch and stores the batch, in the same transaction.
func (s *Service) allocate(ctx context.Context, tx Tx, b *Batch) error {
	counter, err := tx.LockCounter(ctx)
	if err != nil {
		return err
	}
	b.Start = blockStart(counter, b.CreatedAt, s.Floor, s.ByTime)
	if err := checkBlock(b.Start, b.Count); err != nil {
		return err
	}
	if err := tx.SetCounter(ctx, b.Start+uint64(b.Count)); err != nil {
		return err
	}
	b.FirstCode, b.FirstText = s.keyCheckValue(s.Code(*b, 0)), s.keyCheckValue(s.plainText(*b, 0))
	stored, err := tx.AddBatch(ctx, *b)
	if err != nil {
		return err
	}
	if stored.ID > maxBatchID {
		return fmt.Errorf("codes: there are more than %d applications", maxBatchID)
	}
	*b = stored
	return nil
}

// Code returns the original code of an index of a batch that this server created.
func (s *Service) Code(b Batch, index int64) string {
	code := s.Keys.Code.Code(b.Start + uint64(index))
	return string(code[:])
}

// Text returns the code text of an index of a batch that this server created.
func (s *Service) Text(b Batch, index int64) string {
	if b.Template != "" {
		t, err := ParseTemplate(b.Template)
		if err != nil {
			panic(err) // cannot fail: the template was parsed before it was stored
		}
		return t.render(s.Keys, b.Version, b.Start+uint64(index), uint64(index))
	}
	return s.plainText(b, index)
}

// plainText returns the prefix and the secret of a code by its index. The keys of a batch are verified with this text, even if the batch
// has a template.
func (s *Service) plainText(b Batch, index int64) string {
	return Printed{Prefix: b.Prefix, Version: b.Version}.Text(s.Keys.Text[b.Version], b.Start+uint64(index))
}

// keyCheckValue returns the stored value that verifies the keys of a batch: a hash, so that the store contains no valid code.
func (s *Service) keyCheckValue(text string) string { return s.Vault.Hash("first of a batch", text) }

// CheckKeys returns an error unless every batch was made with the current keys. It uses only the fields Store, Keys and Vault.
func (s *Service) CheckKeys(ctx context.Context) error {
	for b, err := range s.Store.Batches(ctx) {
		if err != nil {
			return fmt.Errorf("reading batches: %w", err)
		}
		if b.Imported {
			if b.FirstCode != s.keyCheckValue(importMark) {
				return fmt.Errorf("the codes of application %d were imported with another key than that of this database: restore that key",
					b.ID)
			}
			continue
		}
		if s.Keys.Text[b.Version] == nil {
			return fmt.Errorf("application %d was printed with version %q, whose key is missing", b.ID, string(b.Version))
		}
		if b.FirstCode != s.keyCheckValue(s.Code(b, 0)) || b.FirstText != s.keyCheckValue(s.plainText(b, 0)) {
			return fmt.Errorf(
				"application %d was made with other code keys than those of this database: put the right ones back, printed codes depend on them", b.ID)
		}
	}
	return nil
}

// ownBatch returns a batch of the caller; it returns 80300 for an unknown ID, and 80301 for another account's batch. Contract:
// marketcode 3.2.
func (s *Service) ownBatch(ctx context.Context, caller accounts.Account, id int64) (Batch, error) {
	return s.visibleBatch(ctx, id, func(b Batch) bool { return b.Account == caller.AppID })
}

// visibleBatch returns a batch that the caller may see, or the errors of ownBatch.
func (s *Service) visibleBatch(ctx context.Context, id int64, allowed func(Batch) bool) (Batch, error) {
	b, err := s.Memory.BatchOrLoad(ctx, id)
	switch {
	case errors.Is(err, ErrNoBatch):
		return Batch{}, errcode.NoApplication.WithDetail(behaviour.CodesApplicationUnknown, "there is no application %d", id)
	case err == nil && b.IsProof:
		return Batch{}, errcode.NotOwnApplication.WithDetail(behaviour.CodesApplicationOther,
			"application %d has the proof codes of a print package: they cannot be activated", id)
	case err == nil && !allowed(b):
		return Batch{}, errcode.NotOwnApplication.WithDetail(behaviour.CodesApplicationOther, "application %d is another account's", id)
	}
	return b, err
}

// BatchKey identifies an application by its ID, its ISV, or both.
type BatchKey struct {
	ID  int64 // 0 = absent
	ISV string
}

// Query returns an application of the caller: it returns 40097 without an ID or for two IDs of different applications, 80300 for an
// unknown application, and 80301 for another account's application. Contract: marketcode §3.2.
func (s *Service) Query(ctx context.Context, caller accounts.Account, key BatchKey) (Batch, error) {
	if err := CheckPermission(caller); err != nil {
		return Batch{}, err
	}
	if key.ID == 0 && key.ISV == "" {
		return Batch{}, errcode.InvalidArgs.WithDetail(behaviour.CodesApplicationMissing,
			"application_id and isv_application_id are both missing")
	}
	var byISV Batch
	if key.ISV != "" {
		var err error
		byISV, err = accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (Batch, error) {
			return tx.BatchByISV(ctx, caller.AppID, key.ISV)
		})
		if err != nil && !errors.Is(err, ErrNoBatch) {
			return Batch{}, err
		}
		if byISV.IsProof {
			byISV = Batch{}
		}
	}
	if key.ID == 0 {
		if byISV.ID == 0 {
			return Batch{}, errcode.NoApplication.WithDetail(behaviour.CodesApplicationUnknown,
				"%s has no application with this isv_application_id", caller.AppID)
		}
		return byISV, nil
	}
	b, err := s.ownBatch(ctx, caller, key.ID)
	if err != nil {
		return Batch{}, err
	}
	if byISV.ID != 0 && byISV.ID != b.ID {
		return Batch{}, errcode.InvalidArgs.WithDetail(behaviour.CodesApplicationTwo,
			"isv_application_id belongs to another application than application_id")
	}
	return b, nil
}

// FinishDelay returns the time after which an application reaches the state FINISH.
func (s *Service) FinishDelay() time.Duration {
	return time.Duration(s.Settings.Get().CodeFinishDelaySeconds) * time.Second
}

// Progress returns the progress of an application: its state, the time of the last state change, and the segments that are ready.
// An imported application is PROCESSING until all its codes have been imported.
func (s *Service) Progress(ctx context.Context, b Batch) (status Status, since time.Time, ready []Range, err error) {
	now, delay := s.Now(), s.FinishDelay()
	if b.Imported {
		n, err := s.countImported(ctx, b)
		if err != nil || n < b.Count {
			return Processing, b.CreatedAt, nil, err
		}
		delay = 0
	}
	return b.Status(now, delay), b.UpdatedAt(now, delay), b.Ready(now, delay), nil
}

// requireFinished returns 80308 until the application is in state FINISH.
func (s *Service) requireFinished(ctx context.Context, b Batch) error {
	status, _, _, err := s.Progress(ctx, b)
	if err == nil && status != Finish {
		err = errcode.NotFinished.WithDetail(behaviour.CodesUnfinished, "application %d is not FINISH", b.ID)
	}
	return err
}

// Package returns the data for a download of a range within one segment, and the account's package key. Package returns 48001, the
// errors of ownBatch, InSegment and requireFinished, 80309 for imported codes, or 80313 without a package key. Contract: marketcode §3.3.
func (s *Service) Package(ctx context.Context, caller accounts.Account, id int64, r Range) (PackageRange, [16]byte, error) {
	var key [16]byte
	if err := CheckPermission(caller); err != nil {
		return PackageRange{}, key, err
	}
	b, err := s.ownBatch(ctx, caller, id)
	if err != nil {
		return PackageRange{}, key, err
	}
	if err := b.InSegment(r); err != nil {
		return PackageRange{}, key, err
	}
	if !slices.Contains(b.Segments(), r) {
		if err := s.Settings.Get().NoteOrRefuse(ctx, behaviour.CodesRangePart,
			"code_start %d and code_end %d are a part of a segment", r.From, r.To); err != nil {
			return PackageRange{}, key, err
		}
	}
	if err := s.requireFinished(ctx, b); err != nil {
		return PackageRange{}, key, err
	}
	if b.Imported {
		return PackageRange{}, key, errcode.SegmentExpired.WithDetail(behaviour.CodesDownloadElsewhere,
			"the codes of application %d were imported: print them from the file that was imported", b.ID)
	}
	if caller.MarketcodeKey == "" {
		return PackageRange{}, key, errcode.NoPackageKey.WithDetail(behaviour.CodesKeyMissing,
			"service account %s has no marketcode_key: set one", caller.AppID)
	}
	secret, err := s.Vault.Open("accounts/marketcode_key/"+caller.AppID, caller.MarketcodeKey)
	if err != nil || len(secret) != len(key) {
		return PackageRange{}, key, fmt.Errorf("the package key of %s cannot be decrypted: %w", caller.AppID, err)
	}
	copy(key[:], secret)
	return s.PrintedRange(b, r), key, nil
}

// Activation holds the parameters of a call that activates a range of a batch.
type Activation struct {
	Batch   int64
	Range   Range
	Binding Binding
}

// Activate activates a range of codes at once. Repeating the call with exactly the same range replaces the binding of the range. Activate
// returns 80302 for a range that overlaps another activated range; if a setting allows it, the new activation instead replaces the earlier
// one in the overlap. Activate also returns 48001 (CheckPermission), 40097 or 40013 for an invalid range or an invalid binding, 80306 for a
// range past the end, 80308 for an unfinished application, or the errors of ownBatch. Contract: marketcode §3.4.
func (s *Service) Activate(ctx context.Context, caller accounts.Account, a Activation) error {
	if err := CheckPermission(caller); err != nil {
		return err
	}
	b, err := s.ownBatch(ctx, caller, a.Batch)
	if err != nil {
		return err
	}
	if err := b.CheckRange(a.Range); err != nil {
		return err
	}
	if err := s.requireFinished(ctx, b); err != nil {
		return err
	}
	if err := a.Binding.check(); err != nil {
		return err
	}
	cfg := s.Settings.Get()
	_, err = s.addEvent(ctx, Event{Batch: b.ID, Action: Activate, Codes: NewSet(a.Range), Binding: a.Binding},
		func(row behaviour.Row, format string, args ...any) error {
			return cfg.NoteOrRefuse(ctx, row, format, args...)
		})
	return err
}

// deviationPolicy accepts (nil) or rejects (an error) a deviation from the Weixin platform, identified by its behaviour row. That of calls
// of the platform API is settings.NoteOrRefuse.
type deviationPolicy func(row behaviour.Row, format string, args ...any) error

// lenient is the deviationPolicy of the operator's own API: it accepts every deviation, because the Weixin platform has no such API.
func lenient(behaviour.Row, string, ...any) error { return nil }

// addEvent stores an event of a batch. The field e.From is the time at which the event takes effect; the zero time means at once.
// addEvent returns the number of codes that the event changes.
func (s *Service) addEvent(ctx context.Context, e Event, policy deviationPolicy) (changed int64, err error) {
	cfg, from := s.Settings.Get(), e.From
	err = s.inBatch(ctx, e.Batch, func(tx Tx, b Batch, t time.Time) error {
		if err := s.requireImported(b, t); err != nil {
			return err
		}
		if e.Action == Activate {
			if err := checkBinding(ctx, tx, b, e.Binding, policy); err != nil {
				return err
			}
		}
		e.OccurredAt, e.From = t, cmp.Or(from, t)
		if e.From.Before(t) {
			return Conflict(fmt.Sprintf("an earlier change of application %d is dated %s: schedule this one later", e.Batch,
				t.Format(time.RFC3339)))
		}
		var err error
		if e.Action == Activate {
			err = s.checkOverlap(e, !cfg.Refuses(behaviour.CodesActivateOverlapTaken), policy)
		} else if e.Action == Redeem {
			err = s.checkRedeem(ctx, tx, e)
		}
		if err != nil {
			return err
		}
		changed = s.Memory.Affected(e, t)
		_, err = tx.AddEvent(ctx, e)
		return err
	})
	return changed, err
}

// inBatch runs f in a transaction that holds the batch's write lock. While f runs, the Memory is up to date for the batch, and t is
// the time for new events.
func (s *Service) inBatch(ctx context.Context, id int64, f func(tx Tx, b Batch, t time.Time) error) error {
	err := s.Store.UpdateCodes(ctx, func(tx Tx) error {
		if err := tx.LockBatch(ctx, id); err != nil {
			return err
		}
		b, err := tx.Batch(ctx, id)
		if err == nil && b.ImportUndone() {
			err = ErrNoBatch
		}
		if err != nil {
			return err
		}
		last, err := tx.LastEventAt(ctx, id)
		if err != nil {
			return err
		}
		// The event times of a batch never decrease, so that events take effect in commit order.
		t := s.Now()
		if t.Before(last) {
			t = last
		}
		// This transaction holds the lock of the batch, so all earlier events are committed, and this call brings the Memory up to date.
		if err := s.Memory.catchUpTx(ctx, tx, b); err != nil {
			return err
		}
		return f(tx, b, t)
	})
	// The transaction may have committed even if it returned an error.
	s.awaitMemory(ctx, id)
	return err
}

// checkOverlap returns 80302 if the range of an activation overlaps another activated range: one that is active when the activation takes
// effect, or one with an activation scheduled for later. An activation of exactly the same range is replaced, even if parts of the range
// were re-targeted or deactivated. Contract: marketcode §3.4.
func (s *Service) checkOverlap(e Event, replace bool, policy deviationPolicy) error {
	r := e.Codes.Bounds()
	active := s.Memory.ActiveFrom(e.Batch, r, e.OccurredAt, e.From)
	for _, have := range active {
		activeRange, row := have.Activation.Activated(), behaviour.CodesActivateOverlapTaken
		if activeRange == r { // existing clients repeat the activation of the same range at each edit
			row = behaviour.CodesActivateAgain
		}
		if activeRange == r || replace {
			if err := policy(row, "code_start %d, code_end %d: code %d is active with %d to %d", r.From, r.To, have.From, activeRange.From,
				activeRange.To); err != nil {
				return err
			}
			continue
		}
		text := "active"
		if have.Activation.From.After(e.OccurredAt) {
			text = "to be activated by a schedule"
		}
		var ranges []Range
		for _, activeRange := range active {
			ranges = append(ranges, activeRange.Range)
		}
		taken := NewSet(ranges...)
		return errcode.ActivationOverlaps.WithDetail(behaviour.CodesActivateOverlap,
			"code_start %d, code_end %d: code %d is %s with %d to %d; overlap: %s; free: %s", r.From, r.To, have.From, text, activeRange.From,
			activeRange.To, taken, e.Codes.Subtract(taken))
	}
	return nil
}

func checkBinding(ctx context.Context, tx Tx, b Batch, bind Binding, policy deviationPolicy) error {
	target, err := tx.KeepAccount(ctx, bind.WxaAppID)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil && target.Kind != accounts.MiniProgram {
		return errcode.InvalidArgs.WithDetail(behaviour.CodesActivateAppIDUnknown, "wxa_appid %q is not a Mini Program", bind.WxaAppID)
	}
	if err != nil {
		return err
	}
	link, err := tx.Link(ctx, b.Account, bind.WxaAppID)
	if err != nil && !errors.Is(err, accounts.ErrNoLink) {
		return err
	}
	linked := link.Status == accounts.LinkDone
	for _, entry := range []struct {
		is     bool
		row    behaviour.Row
		detail string
	}{
		{!linked, behaviour.CodesActivateUnlinkedTaken, "it is not linked with " + b.Account},
		{linked && link.ApprovalSkipped, behaviour.LinkAtOnce, ""},
		{target.Subject == accounts.Personal, behaviour.CodesActivatePersonal, "it is a personal Mini Program"},
		{strings.HasPrefix(bind.WxaPath, "/"), behaviour.CodesActivatePathSlash, "wxa_path begins with /"},
		{bind.WxaType == WxaRelease && !target.Has(accounts.Release), behaviour.RulesAddUnreleased, "it has no release"},
		// The sample in the Weixin documentation has the product_code "test_code".
		{!gs1.ValidGTIN(bind.ProductCode) && bind.ProductCode != "test_code", behaviour.CodesActivateProductCode, "product_code is no EAN"},
	} {
		if !entry.is {
			continue
		}
		if entry.row == behaviour.LinkAtOnce {
			behaviour.Note(ctx, entry.row) // only a note: LinkAtOnce is no reason to reject an activation, whatever the settings are
		} else if err := policy(entry.row, "wxa_appid %q: %s", bind.WxaAppID, entry.detail); err != nil {
			return err
		}
	}
	switch {
	case len(target.Pages) == 0:
		return policy(behaviour.CodesActivatePathUnasked, "")
	case !target.HasPage(bind.WxaPath):
		return policy(behaviour.CodesActivatePathUnknown, "%s has no page %.120q", bind.WxaAppID, bind.WxaPath)
	}
	return nil
}

// awaitMemory blocks until the Memory contains the changes that a transaction made to a batch.
func (s *Service) awaitMemory(ctx context.Context, batch int64) {
	if s.Changed != nil {
		// The change is committed: it must become visible even if the client has disconnected.
		s.Changed(context.WithoutCancel(ctx), batch)
	}
}
