package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

func showGS1(e digitallink.Entry) client.GS1Entry {
	shown := client.GS1Entry{Key: e.Key, ID: e.Number, UpdatedAt: e.At, GS1Put: client.GS1Put{Owner: e.Owner, WxaAppID: e.App,
		WxaPath: e.Page, Archived: e.Archived, Links: mapped(e.Links, func(l digitallink.Link) client.GS1Link {
			return client.GS1Link{LinkType: l.Type, Href: l.Href, Title: l.Title, Hreflang: l.Hreflang, Type: l.Media, Context: l.Context,
				Default: l.Default, From: l.From, Until: l.Until}
		})}}
	shown.HasRevision = revisionOf(shown.GS1Put)
	return shown
}

// KeyPath contains a GS1 key from a URL path, in which a slash inside a value is written as %2F.
type KeyPath struct {
	Key string `path:"key" maxLength:"1024" doc:"key as in a Digital Link without the host: 01/09506000134352/10/LOT, with its slashes"`
}

// Resolve implements huma.Resolver; the router has already unescaped the key.
func (p *KeyPath) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	if _, key, is := strings.Cut(address.EscapedPath(), client.OpListGS1Links.Path+"/"); is {
		p.Key = key
	}
	return nil
}

func (p KeyPath) Object() adminroute.Object { return object(gs1Thing, digitallink.KeyOf(p.Key)) }

// Words is a list of strings that may also be given as a single string in JSON.
type Words []string

// Schema describes both JSON forms of Words.
func (Words) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}
}

// UnmarshalJSON accepts both JSON forms of Words.
func (w *Words) UnmarshalJSON(b []byte) error { return (*digitallink.Words)(w).UnmarshalJSON(b) }

// GS1Wanted is a request body: a client.GS1Put whose language and context lists may also be given as a single string.
type GS1Wanted struct {
	client.GS1Put
	Links []struct {
		client.GS1Link
		Hreflang Words `json:"hreflang,omitempty" doc:"languages of the content"`
		Context  Words `json:"context,omitempty" doc:"contexts; only requests with one of them get the link"`
	} `json:"links" nullable:"false"`
}

func (w GS1Wanted) entry(key string) digitallink.Entry {
	e := digitallink.Entry{Key: key, Owner: w.Owner, App: w.WxaAppID, Page: w.WxaPath, Archived: w.Archived, Links: []digitallink.Link{}}
	for _, l := range w.Links {
		e.Links = append(e.Links, digitallink.Link{Type: l.LinkType, Href: l.Href, Title: l.Title, Hreflang: digitallink.Words(l.Hreflang),
			Media: l.Type, Context: digitallink.Words(l.Context), Default: l.Default, From: l.From, Until: l.Until})
	}
	return e
}

func (a ruleAPI) listGS1Links(ctx context.Context, in *client.GS1Query) (client.GS1List, error) {
	accountIDs, err := accountsOf(ctx, in.Owner)
	if err != nil {
		return client.GS1List{}, err
	}
	list, err := a.Products.Find(ctx, digitallink.Query{Under: in.Under, After: in.After, Owners: accountIDs, Limit: in.Limit})
	return client.GS1List{Entries: mapped(list, showGS1)}, err
}

// ofTheirs returns the entry of a GS1 key, or an error if the caller may not access the owner of the entry.
func (a ruleAPI) ofTheirs(ctx context.Context, key string) (digitallink.Entry, error) {
	e, err := a.Products.Get(ctx, key)
	if caller := adminroute.CallerFromContext(ctx); err == nil && !caller.CanAccess(e.Owner) {
		return e, notTheirs(caller)
	}
	return e, err
}

func (a ruleAPI) getGS1Links(ctx context.Context, in *KeyPath) (client.GS1Entry, error) {
	e, err := a.ofTheirs(ctx, in.Key)
	return showGS1(e), err
}

// saveGS1 stores an entry; if the entry has no owner and the caller is limited to one account, that account becomes the owner.
func (a ruleAPI) saveGS1(ctx context.Context, e digitallink.Entry, fresh bool) (client.GS1Entry, error) {
	caller := adminroute.CallerFromContext(ctx)
	if storedEntry, err := a.ofTheirs(ctx, e.Key); err != nil && !errors.Is(err, digitallink.ErrNone) {
		if storedEntry.Key != "" {
			err = huma.Error403Forbidden(digitallink.OwnershipError{Key: storedEntry.Key, Holder: storedEntry.Owner}.Error())
		}
		return client.GS1Entry{}, err
	}
	if e.Owner == "" && len(caller.Accounts) == 1 {
		e.Owner = caller.Accounts[0]
	}
	if e.Owner != "" && !caller.CanAccess(e.Owner) {
		return client.GS1Entry{}, notTheirs(caller)
	}
	e, err := a.Products.Put(ctx, e, fresh, caller.CanAccess)
	if err == nil {
		e, err = a.Products.Get(ctx, e.Key) // with its number
	}
	return showGS1(e), err
}

func (a ruleAPI) addGS1Links(ctx context.Context, in *struct {
	Body struct {
		Key string `json:"key" maxLength:"1024"`
		GS1Wanted
	}
}) (client.GS1Entry, error) {
	return a.saveGS1(ctx, in.Body.entry(in.Body.Key), true)
}

func (a ruleAPI) putGS1Links(ctx context.Context, in *struct {
	KeyPath
	Body GS1Wanted
}) (client.GS1Entry, error) {
	return a.saveGS1(ctx, in.Body.entry(in.Key), false)
}

func (a ruleAPI) deleteGS1Links(ctx context.Context, in *KeyPath) (client.GS1Entry, error) {
	if _, err := a.ofTheirs(ctx, in.Key); err != nil {
		return client.GS1Entry{}, err
	}
	e, err := a.Products.Delete(ctx, in.Key, adminroute.CallerFromContext(ctx).CanAccess)
	return showGS1(e), err
}

// undoGS1Change restores the entry that a key had before a change; only the last change of a key can be undone.
func (a ruleAPI) undoGS1Change(ctx context.Context, in *struct {
	Seq int64 `path:"seq" minimum:"1"`
}) (client.GS1Entry, error) {
	head, err := a.ChangeHead(ctx)
	if err != nil {
		return client.GS1Entry{}, err
	}
	list, err := a.History.Entries(ctx, auditlog.Query{After: in.Seq - 1, Kind: replica.GS1Change, Limit: 1})
	if err != nil {
		return client.GS1Entry{}, err
	}
	caller := adminroute.CallerFromContext(ctx)
	if len(list) == 0 || list[0].Seq != in.Seq || !caller.CanAccess(ownerIn(list[0])) {
		return client.GS1Entry{}, huma.Error404NotFound("no change of a GS1 key has this seq; qrjump audit list --kind gs1 lists the changes")
	}
	list, err = a.History.Entries(ctx, auditlog.Query{Newest: true, Kind: replica.GS1Change, Key: list[0].Key, Limit: 2})
	if err != nil {
		return client.GS1Entry{}, err
	}
	last := list[0]
	if last.Seq != in.Seq {
		return client.GS1Entry{}, huma.Error409Conflict(
			"change " + strconv.FormatInt(last.Seq, 10) + " of this key is newer: undo it first")
	}
	ctx = auditlog.WithPrecondition(ctx, head, auditlog.Name{Kind: replica.GS1Change, Key: last.Key},
		auditlog.Name{Kind: replica.ResetChange})
	oldEntry := last // for a delete, Detail contains the deleted entry
	if last.Action != "delete" {
		if len(list) < 2 || list[1].Action == "delete" {
			return a.deleteGS1Links(ctx, &KeyPath{last.Key})
		}
		oldEntry = list[1]
	}
	var e digitallink.Entry
	if err := json.Unmarshal(oldEntry.Detail, &e); err != nil {
		return client.GS1Entry{}, err
	}
	e.Unowned = e.Owner == ""
	if !caller.CanAccess(e.Owner) { // another account owned the key before
		return client.GS1Entry{}, notTheirs(caller)
	}
	return a.saveGS1(ctx, e, false)
}

// transferGS1 transfers a key, or all keys of a company prefix, to another account. The company prefix in the settings is reassigned before
// the keys, so that the previous account gets no new links during the transfer; if a transfer was interrupted, the same call completes it.
func (a ruleAPI) transferGS1(ctx context.Context, in *struct{ Body client.GS1Transfer }) (done client.GS1TransferResult, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	done.GS1Transfer = in.Body
	prefixes := maps.Clone(a.Settings.Get().GS1Prefixes)
	named := in.Body.Key
	if strings.Contains(named, "/") {
		if named, err = digitallink.Company(in.Body.Key); err != nil {
			return done, err
		}
		switch prefix, holder := prefixes.Holder(named); {
		case holder == "" || holder == in.Body.To:
			named = "" // the setting needs no change: the prefix belongs to no account, or already to the receiver
		case !settings.IsPrefix(named) || len(named) <= 12: // The setting cannot name letters, and up to 12 digits can begin other keys.
			return done, refused("of %.60q: a key with letters or at most 12 digits belongs to the owner of the GS1 Company Prefix %s: "+
				"transfer the prefix", in.Body.Key, prefix)
		}
	} else if !settings.IsPrefix(named) {
		return done, refused("of %.60q: want a GS1 key, such as 01/09506000134352, or the digits of a GS1 Company Prefix", named)
	}
	if named != "" {
		prefixes[named] = in.Body.To
	}
	if done.Keys, err = a.Products.Transfer(ctx, in.Body.Key, in.Body.To, prefixes.Holder, true); err != nil || in.Body.DryRun {
		return done, err
	}
	if named != "" {
		if err := a.AssignGS1Prefix(ctx, named, in.Body.To); err != nil {
			return done, err
		}
	}
	done.Keys, err = a.Products.Transfer(ctx, in.Body.Key, in.Body.To, a.Settings.Get().GS1Prefixes.Holder, false)
	return done, err
}

func (a ruleAPI) exportGS1Links(ctx context.Context, _ *client.Empty) (adminroute.File, error) {
	accountIDs, err := accountsOf(ctx, "")
	if err != nil {
		return adminroute.File{}, err
	}
	return written("gs1", func(ctx context.Context, write func(any) error) error {
		const page = 1000
		for cursor := ""; ; {
			list, err := a.Products.Find(ctx, digitallink.Query{After: cursor, Owners: accountIDs, Limit: page})
			for i := range list {
				if err == nil {
					err = write(list[i])
				}
			}
			if err != nil || len(list) < page {
				return err
			}
			cursor = list[page-1].Key
		}
	})
}

func (a ruleAPI) importGS1Links(ctx context.Context, in *importInput) (client.Imported, error) {
	caller := adminroute.CallerFromContext(ctx)
	return archiveAPI(a).load(ctx, "gs1", in, func(text io.ReadSeeker) (accounts.Imported, error) {
		planned := plan(text, func(e *digitallink.Entry, line int) digitallink.Planned {
			if e.Owner == "" && len(caller.Accounts) == 1 {
				e.Owner = caller.Accounts[0]
			}
			return digitallink.Planned{Line: line, Entry: *e}
		}, func(line int, err error) digitallink.Planned { return digitallink.Planned{Line: line, Err: err} })
		return a.Products.Import(ctx, planned(), in.DryRun, caller.CanAccess)
	})
}
