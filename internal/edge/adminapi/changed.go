package adminapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// The kinds of things that have a revision, by their names in the log of changes.
const (
	accountThing    = "account"
	appearanceThing = "appearance"
	ruleThing       = "rule"
	componentThing  = "component"
	batchThing      = "batch"
	webhookThing    = "webhook"
	personThing     = "person"
	settingThing    = "setting"
	thresholdThing  = "threshold"
	gs1Thing        = "gs1"
)

// Thing implements operations.Changing, and so do those below: what changes something takes If-Match if
// its input embeds one of these.
func (p AppIDPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: accountThing, Key: p.AppID}
}

func (p AppearancePath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: appearanceThing, Key: p.AppID}
}

func (p ComponentPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: componentThing, Key: p.Component}
}

func (p BatchPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: batchThing, Key: strconv.FormatInt(p.ID, 10)}
}

func (p ThresholdPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: thresholdThing, Key: strconv.FormatInt(p.ID, 10)}
}

func (p WebhookPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: webhookThing, Key: strconv.FormatInt(p.ID, 10)}
}

func (p PersonPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: personThing, Key: p.Name}
}

func (p SettingPath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: settingThing, Parts: []string{p.Name}}
}

func (p RulePath) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: ruleThing, Key: p.Prefix, Owner: p.AppID}
}

func (in RuleEdit) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: ruleThing, Key: in.Body.Prefix, Owner: in.AppID}
}

func (in LoginLinkInput) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: personThing, Key: in.Body.Name}
}

func (in PublishInput) Thing() adminroute.Thing {
	return adminroute.Thing{Kind: ruleThing, Key: in.Body.Prefix, Owner: in.AppID}
}

func (w Withdrawal) Thing() adminroute.Thing          { return w.ComponentPath.Thing() }
func (w WithdrawalByAccount) Thing() adminroute.Thing { return w.AppIDPath.Thing() }

// Thing says which settings an object names.
func (in SettingsInput) Thing() adminroute.Thing {
	t := adminroute.Thing{Kind: settingThing}
	var object map[string]json.RawMessage
	_ = json.Unmarshal(in.Body, &object) // the operation itself reports what is wrong with it
	for name, value := range object {
		if string(value) != "null" { // it changes nothing
			t.Parts = append(t.Parts, strings.ToLower(name))
		}
	}
	slices.Sort(t.Parts)
	return t
}

// revisionOf returns a hash that differs whenever something shown of a thing differs, or one of its
// secrets. The secrets are given as they are stored: hashed by a key, salted, or sealed.
func revisionOf(shown any, secrets ...string) client.Revised {
	text, err := json.Marshal(shown)
	if err != nil {
		panic(err) // the same value is answered as JSON
	}
	// A word that begins with - is a flag to a command line.
	return client.Revised{Revision: strings.ReplaceAll(short(string(text)+"\x00"+strings.Join(secrets, "\x00"), 16), "-", "_")}
}

// short returns the first bytes of a text's hash, as text.
func short(text string, bytes int) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:bytes])
}

// settingRevision returns the revision of one setting. The revision of all settings is these, one after
// the other, so that each can be compared by itself.
func settingRevision(f settings.Field, in settings.Settings) string {
	value, err := json.Marshal(f.Value(in))
	if err != nil {
		panic(err) // the same value is answered as JSON
	}
	return short(f.Name+"="+string(value), 6)
}

// ETag returns the revisions of all settings, with dots between.
func (s settingsNow) ETag() string {
	return strings.Join(mapped(settings.Table, func(f settings.Field) string { return settingRevision(f, settings.Settings(s)) }), ".")
}

// matching is the number of times that a change is begun anew because its object changed meanwhile.
const matching = 20

// Guard lets a change happen only where its thing is as the caller saw it. It reads the thing and
// compares. The transaction of the change then makes sure, under the lock of all changes, that
// nothing of the thing changed since; where something did, the thing is read and compared again.
func (a *Admin) Guard() adminroute.Guard {
	return adminroute.Guard{Run: a.unlessChanged, Problem: reflect.TypeFor[changedMeanwhile]()}
}

func (a *Admin) unlessChanged(ctx context.Context, t adminroute.Thing, saw adminroute.Seen,
	change func(context.Context) (any, error)) (any, error) {
	for range matching {
		// The head is read before the thing: then any change that the read may have missed comes
		// after the head.
		head, err := a.ChangeHead(ctx)
		if err != nil {
			return nil, err
		}
		value, tags, err := a.current(ctx, t)
		if err != nil {
			return nil, err
		}
		if !matchesSeen(t, saw, tags) {
			return nil, a.changedMeanwhile(ctx, t, saw, value)
		}
		out, err := change(auditlog.WithPrecondition(ctx, head, touching(t)...))
		if !errors.Is(err, auditlog.ErrMoved) {
			return out, err
		}
		if !saw.Repeatable {
			return nil, a.changedMeanwhile(ctx, t, saw, value)
		}
	}
	return nil, huma.Error503ServiceUnavailable(fmt.Sprintf("%s changes all the time: nothing was changed; try again", nameOf(t)))
}

// matchesSeen reports whether a thing is as the caller saw it. A thing has one tag, or one for each part
// that is compared by itself; a thing that does not exist has none.
func matchesSeen(t adminroute.Thing, saw adminroute.Seen, tags []string) bool {
	switch {
	case saw.None:
		return len(tags) == 0
	case len(tags) == 0:
		return t.Kind == settingThing // the change names no setting, which the operation itself reports
	case saw.Some:
		return true
	}
	var seen []string
	for _, name := range saw.Tags {
		if seen = append(seen, name); t.Kind == settingThing {
			seen = append(seen, strings.Split(name, ".")...)
		}
	}
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(seen, tag) })
}

// touching returns the names in the log of changes under which changes of a thing, or of what is shown
// with it, are noted.
func touching(t adminroute.Thing) []auditlog.Name {
	switch t.Kind {
	case accountThing:
		return []auditlog.Name{{Kind: "account", Key: t.Key}, {Kind: "link"}, {Kind: "reset"}}
	case settingThing:
		return []auditlog.Name{{Kind: "meta", Key: "settings"}, {Kind: "reset"}}
	case thresholdThing:
		return []auditlog.Name{{Kind: "alarm", Key: "application " + t.Key}, {Kind: "reset"}}
	case ruleThing:
		link, _ := rules.ParseLink(t.Key)
		return []auditlog.Name{{Kind: "rule", Key: link.Key}, {Kind: "reset"}}
	}
	return []auditlog.Name{{Key: t.Key}, {Kind: "reset"}}
}

// current returns a thing as it would be shown now, with its tags; no tags where it does not exist. It
// is read from the store, since the memory of this node may be behind.
func (a *Admin) current(ctx context.Context, t adminroute.Thing) (shown any, tags []string, err error) {
	switch t.Kind {
	case accountThing:
		shown, err = a.account(ctx, t.Key, nil)
	case appearanceThing:
		shown, err = a.accounts().getAppearance(ctx, &AppIDPath{t.Key})
	case componentThing:
		shown, err = a.accounts().getComponent(ctx, &ComponentPath{t.Key})
	case ruleThing:
		var rule rules.Rule
		rule, err = a.Rules.RuleOf(ctx, accounts.Account{AppID: t.Owner}, t.Key)
		shown = showRule(rule)
	case batchThing:
		id, _ := strconv.ParseInt(t.Key, 10, 64) // the input has it as a number
		shown, err = a.codes().getBatch(ctx, &BatchPath{id})
	case thresholdThing:
		id, _ := strconv.ParseInt(t.Key, 10, 64) // likewise
		shown, err = a.scans().getBatchAlarm(ctx, &BatchPath{id})
	case webhookThing:
		list, failed := a.Webhooks.List(ctx)
		shown, err = pick(list, showWebhook, func(w webhooks.Webhook) bool { return strconv.FormatInt(w.ID, 10) == t.Key }), failed
	case personThing:
		list, failed := a.People.People(ctx)
		shown, err = pick(list, showPerson, func(p iam.Person) bool { return p.Name == t.Key }), failed
	case gs1Thing:
		shown, err = a.rules().getGS1(ctx, &KeyPath{t.Key})
	case settingThing:
		return a.currentSettings(ctx, t.Parts)
	}
	for _, missing := range []error{accounts.ErrNoAccount, accounts.ErrNoComponent, rules.ErrNoRule, codes.ErrNoBatch, digitallink.ErrNone} {
		if errors.Is(err, missing) {
			return nil, nil, nil
		}
	}
	if err != nil || shown == nil {
		return nil, nil, err
	}
	return shown, []string{adminroute.TagOf(shown)}, nil
}

// pick shows the wanted entry of a list; nil = there is none.
func pick[T, S any](list []T, show func(T) S, wanted func(T) bool) any {
	if i := slices.IndexFunc(list, wanted); i >= 0 {
		return show(list[i])
	}
	return nil
}

// settingsShown are some settings, each with its own revision.
type settingsShown struct{ client.SettingList }

func (s settingsShown) MarshalJSON() ([]byte, error) {
	if len(s.Settings) == 1 {
		return json.Marshal(s.Settings[0])
	}
	return json.Marshal(s.SettingList)
}

func (s settingsShown) ETag() string {
	return strings.Join(mapped(s.Settings, func(setting client.Setting) string { return setting.Revision }), ".")
}

// currentSettings are some settings as they are stored.
func (a *Admin) currentSettings(ctx context.Context, names []string) (shown any, tags []string, err error) {
	settings, err := a.StoredSettings(ctx)
	if err != nil {
		return nil, nil, err
	}
	list, err := a.server().describe(settings)
	if err != nil {
		return nil, nil, err
	}
	list.Settings = slices.DeleteFunc(list.Settings, func(setting client.Setting) bool { return !slices.Contains(names, setting.Name) })
	return settingsShown{list}, mapped(list.Settings, func(setting client.Setting) string { return setting.Revision }), nil
}

// changedMeanwhile is the problem that answers a change whose thing is no longer as the caller saw
// it.
type changedMeanwhile struct {
	huma.ErrorModel
	Current any                  `json:"current,omitempty" doc:"the thing as it is now, with its revision; left out: it is gone, or was never there"`
	Changes []client.ThingChange `json:"changes" doc:"its last changes, newest first; the first of them at least came after what the caller saw"`
}

// Schema describes the fields. How a thing looks is described at the operation that shows it.
func (changedMeanwhile) Schema(r huma.Registry) *huma.Schema {
	s := *r.SchemaFromRef(r.Schema(reflect.TypeFor[huma.ErrorModel](), true, "").Ref)
	s.Properties = mapWith(s.Properties, map[string]*huma.Schema{
		"current": {Type: huma.TypeObject, AdditionalProperties: true,
			Description: "the thing as it is now, with its revision; left out: it is gone, or was never there"},
		"changes": {Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[client.ThingChange](), true, ""),
			Description: "its last changes, newest first; the first of them at least came after what the caller saw"}})
	s.Required = append(slices.Clone(s.Required), "changes")
	return &s
}

func mapWith(all, moreSchemas map[string]*huma.Schema) map[string]*huma.Schema {
	schemas := map[string]*huma.Schema{}
	for _, items := range []map[string]*huma.Schema{all, moreSchemas} {
		maps.Copy(schemas, items)
	}
	return schemas
}

// mostChanges is the maximum number of changes that a problem lists.
const mostChanges = 5

func (a *Admin) changedMeanwhile(ctx context.Context, t adminroute.Thing, saw adminroute.Seen, value any) error {
	p := &changedMeanwhile{Current: value, Changes: []client.ThingChange{}}
	p.Type, p.Title, p.Status = client.ProblemChanged, http.StatusText(http.StatusPreconditionFailed), http.StatusPreconditionFailed
	list, err := a.lastChanges(ctx, t)
	if err != nil {
		return err
	}
	p.Changes = append(p.Changes, list[:min(len(list), mostChanges)]...)
	actor := ""
	if len(list) > 0 {
		last := list[0]
		did := "changed " + strings.Join(last.Fields, ", ")
		switch {
		case last.Action == "delete":
			did = "deleted it"
		case last.Action == "add":
			did = "made it"
		case len(last.Fields) == 0:
			did = "changed it"
		}
		actor = fmt.Sprintf(": %s %s at %s", last.Actor, did, last.OccurredAt.UTC().Format("2006-01-02T15:04:05Z"))
	}
	switch {
	case saw.None:
		p.Detail = nameOf(t) + " is there already" + actor + "; nothing was changed: read it, and change it with If-Match"
	case value == nil:
		p.Detail = nameOf(t) + " is not there any more" + actor + "; nothing was changed"
	default:
		p.Detail = nameOf(t) + " is not as you read it any more" + actor + "; nothing was changed: read it again, and send its revision as If-Match"
	}
	return p
}

// nameOf names a thing for people.
func nameOf(t adminroute.Thing) string {
	switch t.Kind {
	case settingThing:
		return "setting " + strings.Join(t.Parts, ", ")
	case appearanceThing:
		return "the appearance of account " + t.Key
	case thresholdThing:
		return "the alarm of application " + t.Key
	}
	return fmt.Sprintf("%s %.200s", t.Kind, t.Key)
}

// lastChanges returns the last changes of a thing, newest first, with what a caller may know who may
// change the thing.
func (a *Admin) lastChanges(ctx context.Context, t adminroute.Thing) (found []client.ThingChange, err error) {
	for _, name := range touching(t) {
		if name.Kind == "reset" {
			continue
		}
		if name.Kind == "" {
			name.Kind = t.Kind
		}
		const some = 50
		list, err := a.History.Entries(ctx, auditlog.Query{Newest: true, Kind: name.Kind, Key: name.Key, Limit: some})
		if err != nil {
			return nil, err
		}
		for i, e := range list {
			if e.Kind == "link" && !slices.Contains(strings.Fields(e.Key), t.Key) {
				continue
			}
			if owner := ownerIn(e); t.Owner != "" && owner != "" && owner != t.Owner {
				continue
			}
			var oldEntry auditlog.Entry
			if i+1 < len(list) && list[i+1].Key == e.Key {
				oldEntry = list[i+1]
			}
			names := changedFields(e, oldEntry)
			if t.Kind == settingThing && !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(t.Parts, name) }) {
				continue
			}
			found = append(found, client.ThingChange{Seq: e.Seq, OccurredAt: e.OccurredAt, Actor: e.Actor, Via: e.Via, RID: e.RID,
				Action: e.Action, Fields: names})
		}
	}
	slices.SortFunc(found, func(x, y client.ThingChange) int { return cmp.Compare(y.Seq, x.Seq) })
	return found, nil
}

// ownerIn returns the owner of the rule in an entry; "" = there is none.
func ownerIn(e auditlog.Entry) string {
	var rule struct {
		Owner string `json:"owner"`
	}
	_ = json.Unmarshal(e.Detail, &rule) // a detail that is no object has no owner
	return rule.Owner
}

// changedFields returns the fields in which an entry of the log differs from the one before it.
func changedFields(e, oldEntry auditlog.Entry) []string {
	fields := []string{}
	if e.Kind == "link" {
		return append(fields, "linked")
	}
	pastRaws, currentRaws := detailOf(oldEntry), detailOf(e)
	for name, value := range currentRaws {
		oldRaw, exists := pastRaws[name]
		secret, isNew := strings.CutPrefix(name, "new_")
		switch {
		case isNew && string(value) == "true": // it is not said which
			fields = append(fields, secret)
		case isNew || oldEntry.Seq == 0 && e.Kind != "meta" || !exists && empty(value) || exists && string(oldRaw) == string(value):
		default:
			fields = append(fields, name)
		}
	}
	for name, oldRaw := range pastRaws {
		if _, exists := currentRaws[name]; !exists && !empty(oldRaw) && !strings.HasPrefix(name, "new_") && e.Action != "delete" {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	// Fields that are never shown do not count.
	return slices.DeleteFunc(fields, func(name string) bool { return slices.Contains([]string{"changed_at", "published_at", "id"}, name) })
}

func empty(value json.RawMessage) bool {
	return slices.Contains([]string{"", "null", "false", "0", `""`, "[]", "{}"}, string(value))
}

// detailOf returns the fields of an entry's detail; for an entry about settings, the settings.
func detailOf(e auditlog.Entry) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	_ = json.Unmarshal(e.Detail, &fields) // a detail that is no object has none
	if text := ""; e.Kind == "meta" && json.Unmarshal(fields["value"], &text) == nil {
		fields = map[string]json.RawMessage{}
		_ = json.Unmarshal([]byte(text), &fields)
	}
	return fields
}
