package adminapi

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/gs1"
)

const noGTIN = "product_code is no EAN or GTIN with a right check digit"

// acting returns a context in which changes are attributed to name. If the caller is a person or an API key, or name is that of a person or
// key, the audit log shows name only in addition to the caller.
func acting(ctx context.Context, name string) context.Context {
	author := accounts.ActorFromContext(ctx)
	kind, _, _ := strings.Cut(name, ":")
	switch {
	case author.ActorID != "" && author.ActorID != "server" && author.ActorID != "admin":
		author.Via = name
	case kind == "person" || kind == "key":
		author.ActorID, author.Via = "admin", name
	default:
		author.ActorID = cmp.Or(name, "admin")
	}
	return accounts.WithActor(ctx, author)
}

func showEvent(e codes.Event) client.CodeEvent {
	shown := client.CodeEvent{Seq: e.Seq, Action: string(e.Action),
		Ranges: mapped(e.Codes[:min(len(e.Codes), 100)], func(r codes.Range) client.CodeRange { return client.CodeRange(r) }),
		Codes:  e.Codes.Len(), OccurredAt: e.OccurredAt, EffectiveAt: e.From, Actor: e.Actor, RID: e.RID, Note: e.Note}
	if e.Action == codes.Activate {
		b := client.CodeBinding(e.Binding)
		shown.Binding = &b
		if !gs1.ValidGTIN(b.ProductCode) {
			shown.Warning = noGTIN
		}
	}
	return shown
}

type BatchPath struct {
	ID int64 `path:"application_id" minimum:"1"`
}

// batchInput is the input of an operation on a batch with a JSON body.
type batchInput[T any] struct {
	BatchPath
	Body T
}

// batchWith returns a batch that contains a range of codes, or an error if it does not.
func (a *Admin) batchWith(ctx context.Context, id int64, r codes.Range) (codes.Batch, error) {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, id)
	if err == nil {
		err = b.CheckRange(r)
	}
	return b, err
}

// selected converts a code selection into a set of code indexes.
func (a *Admin) selected(ctx context.Context, b codes.Batch, s client.CodeSelection) (codes.Set, error) {
	var ranges []codes.Range
	if s.All {
		ranges = append(ranges, codes.Range{From: 0, To: b.Count - 1})
	}
	for _, r := range s.Ranges {
		if err := b.CheckRange(codes.Range(r)); err != nil {
			return nil, err
		}
		ranges = append(ranges, codes.Range(r))
	}
	for i, text := range s.Codes {
		name := codes.CodeName{URL: text, ID: b.ID}
		if len(text) <= codes.CodeLength {
			name = codes.CodeName{Code: text, ID: b.ID}
		}
		index, err := a.indexOf(ctx, name, "codes[%d]: %s", "codes[%d] is of another application", i)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, codes.Range{From: index, To: index})
	}
	return codes.NewSet(ranges...), nil
}

// indexOf returns the index of a code of the application name.ID. The errors, whose formats are malformed and foreign, give only the place
// i of the code in the request, because the code itself must not appear in logs.
func (a *Admin) indexOf(ctx context.Context, name codes.CodeName, malformed, foreign string, i int) (int64, error) {
	f, err := a.Codes.Lookup(ctx, name)
	if code, detail := errcode.FromError(err); code == errcode.CodeMalformed {
		return 0, accounts.Invalidf(malformed, i, detail)
	}
	if err == nil && f.Batch.ID != name.ID {
		err = accounts.Invalidf(foreign, i)
	}
	return f.Index, err
}

func (a codeAPI) showBatch(ctx context.Context, b codes.Batch) (client.Batch, error) {
	now := a.Codes.Now()
	shown := client.Batch{ID: b.ID, Account: b.Account, ISV: strings.TrimPrefix(b.ISV, "\x01"), Proof: b.IsProof, Count: b.Count,
		Prefix: b.Prefix, Version: string(b.Version), Segment: b.Segment, QRVersion: codes.QRVersion(b.Prefix), CreatedAt: b.CreatedAt,
		Imported: b.Imported}
	if b.Imported {
		shown.Version = ""
	}
	if !b.Imported || b.Template != "" {
		shown.Text, shown.TextBits, shown.Guessable = b.Template, codes.TextBits(b.Template, b.Count), b.Weak()
	}
	if b.Template != "" {
		shown.QRVersion = 0 // unknown: the QR version depends on the letters of each text; the command qrjump symbol computes it
	}
	shown.HasRevision = revisionOf(shown)
	// The progress of the batch and the states of its codes are counted on each request.
	status, _, _, err := a.Codes.Progress(ctx, b)
	counts := a.Codes.Memory.Counts(b.ID, now)
	shown.Status = string(status)
	shown.Frozen, shown.Void, shown.Redeemed = int64(counts.Frozen), int64(counts.Void), int64(counts.Redeemed)
	if b.Imported {
		shown.Arrived = a.Codes.Memory.Arrived(b.ID, now)
	}
	return shown, err
}

func (a codeAPI) listBatches(ctx context.Context, in *client.BatchQuery) (client.BatchList, error) {
	shown := client.BatchList{Batches: []client.Batch{}}
	accountIDs, err := accountsOf(ctx, in.Account)
	if err != nil {
		return shown, err
	}
	for _, b := range a.Codes.Memory.Batches() {
		if b.ID > in.After && (len(accountIDs) == 0 || slices.Contains(accountIDs, b.Account)) && len(shown.Batches) < in.Limit &&
			(in.Idle == 0 || a.idle(b, in.Idle)) {
			batch, err := a.showBatch(ctx, b)
			if err != nil {
				return shown, err
			}
			shown.Batches = append(shown.Batches, batch)
		}
	}
	return shown, nil
}

// idle reports whether a batch has no active code although it was created at least the given number of days ago.
func (a codeAPI) idle(b codes.Batch, days int) bool {
	now := a.Codes.Now()
	return !b.IsProof && now.Sub(b.CreatedAt) >= time.Duration(days)*24*time.Hour &&
		!a.Codes.Memory.HasActivation(b.ID, codes.Range{To: b.Count - 1}, now)
}

func (a codeAPI) getBatch(ctx context.Context, in *BatchPath) (client.Batch, error) {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID)
	return readAfter(ctx, err, a.showBatch, b)
}

// ofBatch returns the account that owns the batch named in a request.
func (a codeAPI) ofBatch(ctx context.Context, parameter func(string) string) (string, error) {
	id, err := strconv.ParseInt(parameter("application_id"), 10, 64)
	if err != nil {
		return "", codes.ErrNoBatch
	}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, id)
	return b.Account, err
}

func (a codeAPI) listCodeEvents(ctx context.Context, in *struct {
	BatchPath
	client.CodeEventQuery
}) (client.CodeEventList, error) {
	shown := client.CodeEventList{Events: []client.CodeEvent{}}
	if _, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID); err != nil {
		return shown, err
	}
	for e, err := range a.Codes.Store.Events(ctx, in.ID, in.After) {
		if err != nil {
			return shown, err
		}
		if shown.Events = append(shown.Events, showEvent(e)); len(shown.Events) == in.Limit {
			break
		}
	}
	return shown, nil
}

func (a codeAPI) change(ctx context.Context, actor string, id int64, s client.CodeSelection, c codes.Change) (client.CodesChanged, error) {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, id)
	if err != nil {
		return client.CodesChanged{}, err
	}
	set, err := a.selected(ctx, b, s)
	if err != nil {
		return client.CodesChanged{}, err
	}
	c.Batch, c.Codes = id, set
	changed, err := a.Codes.Change(acting(ctx, actor), c)
	done := client.CodesChanged{Codes: set.Len(), Changed: changed}
	switch {
	case err != nil:
	case c.Action == codes.Activate && !gs1.ValidGTIN(c.Binding.ProductCode):
		done.Warning = noGTIN
	case c.Action == codes.Unfreeze && changed > 0:
		var recalled []codes.PrintPackage
		recalled, err = a.Codes.RecalledPackages(ctx, id, set)
		if len(recalled) > 0 {
			done.Warning = fmt.Sprintf("package %d is no longer recalled: its file, which may be lost, is valid again", recalled[0].ID)
		}
	}
	return done, err
}

func (a codeAPI) changeCodes(ctx context.Context, in *batchInput[client.CodeStateChange]) (client.CodesChanged, error) {
	b := in.Body
	return a.change(ctx, b.Actor, in.ID, b.CodeSelection, codes.Change{Action: codes.EventType(b.Action), Note: b.Note})
}

func (a codeAPI) activateCodes(ctx context.Context, in *batchInput[client.Activation]) (client.CodesChanged, error) {
	b := in.Body
	return a.change(ctx, b.Actor, in.ID, client.CodeSelection{Ranges: []client.CodeRange{{From: b.From, To: b.To}}},
		codes.Change{Action: codes.Activate, Binding: codes.Binding(b.Binding), From: b.EffectiveAt, Note: b.Note})
}

func (a codeAPI) deactivateCodes(ctx context.Context, in *batchInput[client.Deactivation]) (client.CodesChanged, error) {
	b := in.Body
	return a.change(ctx, b.Actor, in.ID, b.CodeSelection, codes.Change{Action: codes.Deactivate, From: b.EffectiveAt, Note: b.Note})
}

func (a codeAPI) retargetCodes(ctx context.Context, in *batchInput[client.RetargetRequest]) (client.CodesRetargeted, error) {
	r := codes.Range{From: in.Body.From, To: in.Body.To}
	done, err := a.Codes.Retarget(acting(ctx, in.Body.Actor), in.ID, r, in.Body.WxaAppID, in.Body.WxaPath, in.Body.WxaType)
	if err != nil {
		return client.CodesRetargeted{}, err
	}
	return client.CodesRetargeted{Activations: done.Activations, Codes: codes.NewSet(r).Len(), Changed: done.Codes}, nil
}

func (a codeAPI) lookupCode(ctx context.Context, in *struct {
	OwnedBy
	Body client.CodeLookup
}) (client.StoredCode, error) {
	name := codes.CodeName{URL: in.Body.CodeURL, Code: in.Body.Code, ID: in.Body.ApplicationID}
	if in.Body.CodeIndex != nil {
		name.Index, name.HasIndex = *in.Body.CodeIndex, true
	}
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return client.StoredCode{}, err
	}
	f, err := a.Codes.Lookup(ctx, name)
	if err == nil && len(accountIDs) > 0 && !slices.Contains(accountIDs, f.Batch.Account) {
		err = huma.Error403Forbidden("this code is of another account's application")
	}
	if err == nil {
		f, err = a.Codes.LookupConsistent(ctx, f)
	}
	if err != nil {
		return client.StoredCode{}, err
	}
	history, err := a.Codes.History(ctx, f.Batch.ID, f.Index)
	_, text, printErr := a.Codes.Print(ctx, f.Batch, f.Index)
	err = errors.Join(err, printErr)
	shown := client.StoredCode{ApplicationID: f.Batch.ID, CodeIndex: f.Index, Code: f.Code, CodeURL: text,
		Active: f.State.Activation != nil, Frozen: f.State.Frozen, Void: f.State.Void, Redeemed: f.State.Redeemed,
		History: mapped(history, showEvent)}
	// a caller that can read the text of a code can print a copy of the code
	if !adminroute.CallerFromContext(ctx).Role.AtLeast(adminroute.Marketer) {
		shown.Code, shown.CodeURL = "", ""
	}
	if f.State.Activation != nil {
		e := showEvent(*f.State.Activation)
		shown.Activation = &e
	}
	if err == nil {
		var serials map[int64]string
		serials, err = a.Codes.Serials(ctx, f.Batch.ID, f.Index)
		shown.Serial = serials[f.Index]
	}
	if err == nil {
		name := alarms.CodeName{Batch: f.Batch.ID, Index: f.Index}
		var standing []alarms.Alarm
		standing, err = a.Alarms.Alarms(ctx, alarms.Query{State: alarms.StateOpen, Code: &name, Limit: 10})
		for _, s := range standing {
			shown.Alarms = append(shown.Alarms, client.OpenAlarm{ID: s.ID, Kind: s.Kind, State: s.State(), OccurredAt: s.CreatedAt,
				Score: s.Score, Reasons: mapped(s.Reasons(), inBoth), AcknowledgedAt: optional(s.AcknowledgedAt),
				AcknowledgedBy: s.AcknowledgedBy})
		}
	}
	return shown, err
}

func (a codeAPI) getCodeScans(ctx context.Context, in *struct {
	BatchPath
	Index int64 `path:"code_index" minimum:"0"`
}) (client.CodeScans, error) {
	if _, err := a.batchWith(ctx, in.ID, codes.Range{From: in.Index, To: in.Index}); err != nil {
		return client.CodeScans{}, err
	}
	name := alarms.CodeName{Batch: in.ID, Index: in.Index}
	c, err := a.Alarms.Code(ctx, name)
	if err != nil {
		return client.CodeScans{}, err
	}
	open, err := a.Alarms.Alarms(ctx, alarms.Query{State: alarms.StateOpen, Code: &name, Limit: 10})
	if err != nil {
		return client.CodeScans{}, err
	}
	shown := client.CodeScans{Scans: c.Scans, Users: c.Users.Count(), Networks: c.Networks, Regions: c.Regions,
		ImpossibleTravelCount: c.Trips,
		Score:                 c.AlarmScore(), DismissedAt: optional(c.DismissedAt)}
	for _, p := range c.Locations {
		place := client.CodePlace{Region: p.Region, Scans: p.Scans, Networks: p.Networks}
		if p.Known {
			place.Lat, place.Lon = &p.Lat, &p.Lon
		}
		shown.Places = append(shown.Places, place)
	}
	slices.SortStableFunc(shown.Places, func(a, b client.CodePlace) int { return cmp.Compare(b.Scans, a.Scans) })
	if c.Scans > 0 {
		shown.FirstAt, shown.LastAt = &c.FirstAt, &c.LastAt
	}
	threshold, err := a.Alarms.Threshold(ctx, in.ID)
	shown.Threshold, shown.Stage = threshold.Score, alarms.StateOf(open, int64(shown.Score), threshold.Score)
	return shown, err
}

func (a codeAPI) bindSerials(ctx context.Context, in *batchInput[client.SerialsPut]) (client.CodesChanged, error) {
	list := make([]codes.Serial, 0, len(in.Body.Serials))
	for i, s := range in.Body.Serials {
		name := codes.CodeName{URL: s.CodeURL, Code: s.Code, ID: in.ID}
		if s.Index != nil {
			name.Index, name.HasIndex = *s.Index, true
		}
		index, err := a.indexOf(ctx, name, "serials[%d]: %s", "serials[%d] is of another application", i)
		if err != nil {
			return client.CodesChanged{}, err
		}
		list = append(list, codes.Serial{Index: index, Serial: s.Serial})
	}
	changed, err := a.Codes.BindSerials(acting(ctx, in.Body.Actor), in.ID, list, in.Body.Replace)
	return client.CodesChanged{Codes: int64(len(list)), Changed: changed}, err
}

// addSerials fills in the serial numbers of the scanned codes.
func (a codeAPI) addSerials(ctx context.Context, scans []client.RecordedScan) error {
	indexes := map[int64][]int64{}
	for _, s := range scans {
		if s.CodeIndex != nil {
			indexes[s.ApplicationID] = append(indexes[s.ApplicationID], *s.CodeIndex)
		}
	}
	for batch, list := range indexes {
		found, err := a.Codes.Serials(ctx, batch, list...)
		if err != nil {
			return err
		}
		for i, s := range scans {
			if s.CodeIndex != nil && s.ApplicationID == batch {
				scans[i].Serial = found[*s.CodeIndex]
			}
		}
	}
	return nil
}

func (a codeAPI) listCodeRuns(ctx context.Context, in *struct {
	BatchPath
	client.CodeRunQuery
}) (client.CodeRuns, error) {
	shown := client.CodeRuns{Runs: []client.CodeRun{}}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID)
	if err != nil {
		return shown, err
	}
	r := codes.Range{From: in.From, To: in.To}
	if in.To < 0 {
		r.To = b.Count - 1
	}
	if err := b.CheckRange(r); err != nil {
		return shown, err
	}
	runs, hasMore := a.Codes.Memory.StateRuns(in.ID, r, a.Codes.Now(), in.Limit)
	shown.Runs, shown.More = mapped(runs, func(run codes.StateRun) client.CodeRun {
		codeRun := client.CodeRun{CodeRange: client.CodeRange(run.Range), Frozen: run.State.Frozen, Void: run.State.Void,
			Redeemed: run.State.Redeemed}
		if e := run.State.Activation; e != nil {
			binding := client.CodeBinding(e.Binding)
			codeRun.Active, codeRun.Activation, codeRun.Binding = true, e.Seq, &binding
		}
		return codeRun
	}), hasMore
	return shown, scanAPI(a).addAlarms(ctx, in.ID, shown.Runs)
}

// maxListed is the maximum number of codes in one exported file.
const maxListed = 50_000

func (a codeAPI) listCodes(ctx context.Context, in *struct {
	BatchPath
	client.CodeQuery
}) (adminroute.File, error) {
	r := codes.Range(in.CodeQuery)
	b, err := a.batchWith(ctx, in.ID, r)
	if err != nil {
		return adminroute.File{}, err
	}
	if n := r.To - r.From + 1; n > maxListed {
		return adminroute.File{}, refused("%d codes: at most %d are listed at once", n, maxListed)
	}
	name := fmt.Sprintf("codes-%d-%d-%d.csv", in.ID, r.From, r.To)
	return adminroute.File{Name: name, Type: "text/csv; charset=utf-8", Write: func(ctx context.Context, w io.Writer) error {
		out := csv.NewWriter(bufio.NewWriterSize(w, 64<<10))
		out.UseCRLF = true
		row, pin := []string{"index", "code", "code_text"}, codes.PINs(a.Codes.Vault, b)
		if pin != nil {
			row = append(row, "pin")
		}
		if err := out.Write(row); err != nil {
			return err
		}
		err := a.Codes.EachPrint(ctx, b, r, func(i int64, code, text string) error {
			// Imported codes may begin with a character that starts a formula in a spreadsheet.
			row[0], row[1], row[2] = strconv.FormatInt(i, 10), adminroute.EscapeCSVFormula(code), adminroute.EscapeCSVFormula(text)
			if pin != nil {
				row[3] = pin(uint64(i))
			}
			return out.Write(row)
		})
		out.Flush()
		return cmp.Or(err, out.Error())
	}}, nil
}
