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
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// The kinds of objects that have a revision, as named in the change log.
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
	caseThing       = "case"
)

// Object implements adminroute.Changing, for AppIDPath and for the types below: an operation accepts If-Match if its input embeds
// one of these types.
func (p AppIDPath) Object() adminroute.Object       { return object(accountThing, p.AppID) }
func (p AppearancePath) Object() adminroute.Object  { return object(appearanceThing, p.AppID) }
func (p ComponentPath) Object() adminroute.Object   { return object(componentThing, p.Component) }
func (p BatchPath) Object() adminroute.Object       { return object(batchThing, p.ID) }
func (p ThresholdPath) Object() adminroute.Object   { return object(thresholdThing, p.ID) }
func (p WebhookPath) Object() adminroute.Object     { return object(webhookThing, p.ID) }
func (p CasePath) Object() adminroute.Object        { return object(caseThing, p.ID) }
func (p PersonPath) Object() adminroute.Object      { return object(personThing, p.Name) }
func (in LoginLinkInput) Object() adminroute.Object { return object(personThing, in.Body.Name) }
func (p SettingPath) Object() adminroute.Object {
	return adminroute.Object{Kind: settingThing, Parts: []string{p.Name}}
}
func (p RulePath) Object() adminroute.Object            { return ruleObject(p.AppID, p.Prefix) }
func (in RuleEdit) Object() adminroute.Object           { return ruleObject(in.AppID, in.Body.Prefix) }
func (in PublishInput) Object() adminroute.Object       { return ruleObject(in.AppID, in.Body.Prefix) }
func (w Revocation) Object() adminroute.Object          { return w.ComponentPath.Object() }
func (w RevocationByAccount) Object() adminroute.Object { return w.AppIDPath.Object() }

// object returns the object of a kind that a key identifies: a name or a number.
func object(kind string, key any) adminroute.Object {
	return adminroute.Object{Kind: kind, Key: fmt.Sprint(key)}
}

func ruleObject(owner, prefix string) adminroute.Object {
	return adminroute.Object{Kind: ruleThing, Key: prefix, Owner: owner}
}

// Object returns the settings that the request body names.
func (in SettingsInput) Object() adminroute.Object {
	t := adminroute.Object{Kind: settingThing}
	var object map[string]json.RawMessage
	_ = json.Unmarshal(in.Body, &object) // the operation itself reports an invalid body
	for name, value := range object {
		if string(value) != "null" { // null leaves the setting unchanged
			t.Parts = append(t.Parts, strings.ToLower(name))
		}
	}
	slices.Sort(t.Parts)
	return t
}

// revisionOf returns a hash that changes whenever a shown field or a secret of an object changes. The secrets are passed in their
// stored form: hashed with a key, salted, or encrypted.
func revisionOf(shown any, secrets ...string) client.HasRevision {
	text, err := json.Marshal(shown)
	if err != nil {
		panic(err) // cannot happen: the same value is also sent as JSON
	}
	// A value that begins with - would be parsed as a flag on a command line.
	return client.HasRevision{Revision: strings.ReplaceAll(truncatedHash(string(text)+"\x00"+strings.Join(secrets, "\x00"), 16), "-", "_")}
}

// truncatedHash returns the first bytes of a text's hash, base64-encoded.
func truncatedHash(text string, bytes int) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:bytes])
}

// settingRevision returns the revision of one setting. The revision of all settings is the concatenation of the single revisions,
// so that each setting can be compared separately.
func settingRevision(f settings.Field, in settings.Settings) string {
	value, err := json.Marshal(f.Value(in))
	if err != nil {
		panic(err) // cannot happen: the same value is also sent as JSON
	}
	return truncatedHash(f.Name+"="+string(value), 6)
}

// ETag returns the revisions of all settings, separated by dots.
func (s settingsNow) ETag() string {
	return strings.Join(mapped(settings.Table, func(f settings.Field) string { return settingRevision(f, settings.Settings(s)) }), ".")
}

// matching is the maximum number of attempts to apply a change while other callers change the same object.
const matching = 20

// Guard returns the guard that applies a change only if the object still has the revision that the caller saw. The guard reads the
// object and compares its revision. The transaction of the change then verifies, while the lock of all changes is held, that the
// object has not changed since; otherwise the object is read and compared again.
func (a *Admin) Guard() adminroute.Guard {
	return adminroute.Guard{Run: a.unlessChanged, Problem: reflect.TypeFor[preconditionFailed]()}
}

func (a *Admin) unlessChanged(ctx context.Context, t adminroute.Object, saw adminroute.Seen,
	change func(context.Context) (any, error)) (any, error) {
	for range matching {
		// The number of the newest change in the change log is read before the object, so that any change that the read of the
		// object misses has a higher number.
		head, err := a.ChangeHead(ctx)
		if err != nil {
			return nil, err
		}
		value, tags, err := a.current(ctx, t)
		if err != nil {
			return nil, err
		}
		if !matchesSeen(t, saw, tags) {
			return nil, a.preconditionFailed(ctx, t, saw, value)
		}
		out, err := change(auditlog.WithPrecondition(ctx, head, touching(t)...))
		if !errors.Is(err, auditlog.ErrMoved) {
			return out, err
		}
		if !saw.Repeatable {
			return nil, a.preconditionFailed(ctx, t, saw, value)
		}
	}
	return nil, huma.Error503ServiceUnavailable(fmt.Sprintf("%s was changed concurrently several times: nothing was changed; try again", nameOf(t)))
}

// matchesSeen reports whether an object still has a revision that the caller saw. An object has one tag, or one tag for each part
// that is compared separately; an object that does not exist has no tag.
func matchesSeen(t adminroute.Object, saw adminroute.Seen, tags []string) bool {
	switch {
	case saw.MustNotExist:
		return len(tags) == 0
	case len(tags) == 0:
		return t.Kind == settingThing // the change names no setting; the operation itself reports that no setting is named
	case saw.MustExist:
		return true
	}
	var seen []string
	for _, name := range saw.Tags {
		seen = append(seen, name)
		if t.Kind == settingThing {
			seen = append(seen, strings.Split(name, ".")...)
		}
	}
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(seen, tag) })
}

// touching returns names in the change log: entries with these names record changes of the object, or of data that is shown with it.
func touching(t adminroute.Object) []auditlog.Name {
	switch t.Kind {
	case accountThing:
		return []auditlog.Name{{Kind: "account", Key: t.Key}, {Kind: "link"}, {Kind: "reset"}}
	case settingThing:
		return []auditlog.Name{{Kind: "meta", Key: "settings"}, {Kind: "reset"}}
	case thresholdThing:
		return []auditlog.Name{{Kind: "alarm", Key: "application " + t.Key}, {Kind: "reset"}}
	case caseThing:
		return []auditlog.Name{{Kind: "alarm", Key: "case " + t.Key}, {Kind: "reset"}}
	case ruleThing:
		link, _ := rules.ParseLink(t.Key)
		return []auditlog.Name{{Kind: "rule", Key: link.Key}, {Kind: "reset"}}
	}
	return []auditlog.Name{{Key: t.Key}, {Kind: "reset"}}
}

// current returns an object in its current form for a response, with its tags; tags is empty if the object does not exist. The object is
// read from the store, because the memory of this node may lag.
func (a *Admin) current(ctx context.Context, t adminroute.Object) (shown any, tags []string, err error) {
	id, _ := strconv.ParseInt(t.Key, 10, 64) // valid if the kind has numbers as keys, because the key was formatted from a number
	switch t.Kind {
	case accountThing:
		shown, err = accountAPI{a}.getAccount(ctx, &AppIDPath{t.Key})
	case appearanceThing:
		shown, err = accountAPI{a}.getAppearance(ctx, &AppIDPath{t.Key})
	case componentThing:
		if caller := adminroute.CallerFromContext(ctx); caller.Scoped() {
			return nil, nil, notTheirs(caller) // a component belongs to no account
		}
		shown, err = accountAPI{a}.getComponent(ctx, &ComponentPath{t.Key})
	case ruleThing:
		var rule rules.Rule
		rule, err = a.Rules.RuleOf(ctx, accounts.Account{AppID: t.Owner}, t.Key)
		shown = showRule(rule)
	case batchThing:
		shown, err = codeAPI{a}.getBatch(ctx, &BatchPath{id})
	case thresholdThing:
		shown, err = scanAPI{a}.getBatchAlarm(ctx, &BatchPath{id})
	case caseThing:
		shown, err = scanAPI{a}.getCase(ctx, &CasePath{id})
	case webhookThing:
		list, failed := a.Webhooks.List(ctx)
		shown, err = pick(list, showWebhook, func(w webhooks.Webhook) bool { return w.ID == id }), failed
	case personThing:
		list, failed := a.People.People(ctx)
		shown, err = pick(list, showPerson, func(p iam.Person) bool { return p.Name == t.Key }), failed
	case gs1Thing:
		shown, err = ruleAPI{a}.getGS1Links(ctx, &KeyPath{t.Key})
	case settingThing:
		return a.currentSettings(ctx, t.Parts)
	}
	for _, missing := range []error{accounts.ErrNoAccount, accounts.ErrNoComponent, rules.ErrNoRule, codes.ErrNoBatch,
		digitallink.ErrNone, alarms.ErrNoCase} {
		if errors.Is(err, missing) {
			return nil, nil, nil
		}
	}
	if err != nil || shown == nil {
		return nil, nil, err
	}
	return shown, []string{adminroute.TagOf(shown)}, nil
}

// pick returns the wanted entry of a list, converted by show; nil = not found.
func pick[T, S any](list []T, show func(T) S, wanted func(T) bool) any {
	if i := slices.IndexFunc(list, wanted); i >= 0 {
		return show(list[i])
	}
	return nil
}

// settingsShown is a list of settings, each with its own revision.
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

// currentSettings returns some settings as currently stored.
func (a *Admin) currentSettings(ctx context.Context, names []string) (shown any, tags []string, err error) {
	stored, err := a.StoredSettings(ctx)
	if err != nil {
		return nil, nil, err
	}
	list, err := serverAPI{a}.describe(stored)
	if err != nil {
		return nil, nil, err
	}
	list.Settings = slices.DeleteFunc(list.Settings, func(setting client.Setting) bool { return !slices.Contains(names, setting.Name) })
	return settingsShown{list}, mapped(list.Settings, func(setting client.Setting) string { return setting.Revision }), nil
}

// preconditionFailed is the problem document for a change of an object that no longer has the revision that the caller saw.
type preconditionFailed struct {
	huma.ErrorModel
	Current any                   `json:"current,omitempty" doc:"current object with its revision; omitted if it does not exist"`
	Changes []client.ObjectChange `json:"changes" doc:"recent changes, newest first; at least the first is newer than the revision sent"`
}

// Schema returns the JSON schema of the fields of a preconditionFailed problem. The schema does not describe the fields of the object in
// "current", because the operation that returns the object describes them.
func (preconditionFailed) Schema(r huma.Registry) *huma.Schema {
	s := *r.SchemaFromRef(r.Schema(reflect.TypeFor[huma.ErrorModel](), true, "").Ref)
	s.Properties = maps.Clone(s.Properties)
	s.Properties["current"] = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true,
		Description: "current object with its revision; omitted if it does not exist"}
	s.Properties["changes"] = &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[client.ObjectChange](), true, ""),
		Description: "recent changes of the object, newest first; at least the first is newer than the revision sent"}
	s.Required = append(slices.Clone(s.Required), "changes")
	return &s
}

// maxChanges is the maximum number of changes that a problem lists.
const maxChanges = 5

func (a *Admin) preconditionFailed(ctx context.Context, t adminroute.Object, saw adminroute.Seen, value any) error {
	p := &preconditionFailed{Current: value, Changes: []client.ObjectChange{}}
	p.Type, p.Title, p.Status = client.ProblemPreconditionFailed, "Precondition Failed", http.StatusPreconditionFailed
	list, err := a.lastChanges(ctx, t)
	if err != nil {
		return err
	}
	p.Changes = append(p.Changes, list[:min(len(list), maxChanges)]...)
	actor := ""
	if len(list) > 0 {
		last := list[0]
		did := "changed " + strings.Join(last.Fields, ", ")
		switch {
		case last.Action == "delete":
			did = "deleted it"
		case last.Action == "add":
			did = "created it"
		case len(last.Fields) == 0:
			did = "changed it"
		}
		actor = fmt.Sprintf(": %s %s at %s", last.Actor, did, last.OccurredAt.UTC().Format("2006-01-02T15:04:05Z"))
	}
	switch {
	case saw.MustNotExist:
		p.Detail = nameOf(t) + " already exists" + actor + "; nothing was changed: read it, and update it with If-Match"
	case value == nil:
		p.Detail = nameOf(t) + " does not exist any more" + actor + "; nothing was changed"
	default:
		p.Detail = nameOf(t) + " has changed since you read it" + actor +
			"; nothing was changed: read it again, and send its revision as If-Match"
	}
	return p
}

// nameOf returns a readable name of an object for messages.
func nameOf(t adminroute.Object) string {
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

// lastChanges returns the last changes of an object, newest first; every caller that may change the object may also see these changes.
func (a *Admin) lastChanges(ctx context.Context, t adminroute.Object) (found []client.ObjectChange, err error) {
	for _, name := range touching(t) {
		if name.Kind == "reset" {
			continue
		}
		name.Kind = cmp.Or(name.Kind, t.Kind)
		const limit = 50
		list, err := a.History.Entries(ctx, auditlog.Query{Newest: true, Kind: name.Kind, Key: name.Key, Limit: limit})
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
			found = append(found, client.ObjectChange{Seq: e.Seq, OccurredAt: e.OccurredAt, Actor: e.Actor, Via: e.Via, RID: e.RID,
				Action: e.Action, Fields: names})
		}
	}
	slices.SortFunc(found, func(x, y client.ObjectChange) int { return cmp.Compare(y.Seq, x.Seq) })
	return found, nil
}

// ownerIn returns the owner of the rule in an audit log entry; "" = none.
func ownerIn(e auditlog.Entry) string {
	var rule struct {
		Owner string `json:"owner"`
	}
	_ = json.Unmarshal(e.Detail, &rule) // a detail that is not a JSON object has no owner
	return rule.Owner
}

// changedFields returns the fields in which an audit log entry differs from the previous entry.
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
		case isNew && string(value) == "true": // new_X: true records that the field X changed, without its value
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
	// Fields that are never shown are ignored.
	return slices.DeleteFunc(fields, func(name string) bool { return slices.Contains([]string{"updated_at", "published_at", "id"}, name) })
}

func empty(value json.RawMessage) bool {
	return slices.Contains([]string{"", "null", "false", "0", `""`, "[]", "{}"}, string(value))
}

// detailOf returns the fields of an audit log entry's detail; for an entry about settings, the settings.
func detailOf(e auditlog.Entry) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	_ = json.Unmarshal(e.Detail, &fields) // a detail that is not a JSON object has no fields
	if text := ""; e.Kind == "meta" && json.Unmarshal(fields["value"], &text) == nil {
		fields = map[string]json.RawMessage{}
		_ = json.Unmarshal([]byte(text), &fields)
	}
	return fields
}
