package console

import (
	"cmp"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

type gs1View struct {
	client.GS1Query
	Entries []client.GS1Entry
}

func (pages rulePages) gs1(v *request) error {
	data := gs1View{GS1Query: client.GS1Query{Owner: v.r.URL.Query().Get("account"), Limit: pageRows}}
	wrong := v.query(&data.GS1Query, "under after")
	data.Under = strings.Trim(data.Under, "/")
	list, err := v.api.GS1.List(v.ctx(), data.GS1Query)
	data.Entries = list
	return v.page("gs1", data, cmp.Or(wrong, err))
}

// transferGS1 transfers a key or a company prefix to another account, after the visitor confirms the number of affected keys.
func (pages rulePages) transferGS1(v *request) error {
	want := client.GS1Transfer{Key: strings.Trim(v.word("of"), "/"), To: v.word("to"), DryRun: true}
	done, err := v.api.GS1.Transfer(v.ctx(), want)
	if said, is := refused(err, http.StatusUnprocessableEntity, http.StatusNotFound); is {
		return v.refuse(http.StatusUnprocessableEntity, "of", said.Detail)
	}
	if err == nil {
		err = v.confirmed(v.say("gs1.transfer.sure", want.Key, done.Keys, want.To), want.Key, nil)
	}
	if err != nil {
		return err
	}
	want.DryRun = false
	_, err = v.api.GS1.Transfer(v.ctx(), want)
	return v.done(Root+"/gs1?done=saved", err)
}

type gs1KeyView struct {
	client.GS1Entry
	Fresh bool
	Rows  []gs1Row
	Last  *client.Change // the change that undo reverts; nil = no change, or this reader may not undo
	// Below lists the entries of lots and serials under the key; More reports that the list is truncated.
	Below []client.GS1Entry
	More  bool
	// Text is the content of the key's symbol: a Digital Link or, if this server has no host for the link, AIs in brackets.
	Text, Wrong string
	Link        bool
	Picture     template.URL
	Kinds       []labels.Kind
	Modules     []string
}

// gs1Row is a row of the form with one link of the key.
type gs1Row struct {
	client.GS1Link
	N int
}

func gs1Page(key string) string { return Root + "/gs1/key?key=" + url.QueryEscape(key) }

// gs1Key shows the form of a GS1 key, or an empty form for a new key.
func (pages rulePages) gs1Key(v *request) error {
	return pages.showGS1(v, http.StatusOK, v.r.URL.Query().Get("key"), gs1KeyView{})
}

// showGS1 shows the page of a key, including the content of its symbol.
func (pages rulePages) showGS1(v *request, status int, key string, data gs1KeyView) error {
	if data.Fresh = key == ""; !data.Fresh {
		var err error
		data.GS1Entry, err = v.api.GS1.Get(v.ctx(), key)
		if err := cmp.Or(err, pages.symbolOf(v, &data)); err != nil {
			return err
		}
		if (view{request: v}).HasRole("operator") && len(v.caller.Accounts) == 0 {
			list, err := v.api.AuditLog.List(v.ctx(), client.ChangesQuery{Newest: true, Kind: "gs1", Key: data.Key, Limit: 1})
			if err != nil {
				return err
			}
			if len(list) > 0 {
				data.Last = &list[0]
			}
		}
	} else {
		data.Owner = v.Account()
	}
	const empty = 2 // number of empty rows for new links
	for i := range len(data.Links) + empty {
		row := gs1Row{N: i}
		if i < len(data.Links) {
			row.GS1Link = data.Links[i]
		}
		data.Rows = append(data.Rows, row)
	}
	return v.show(status, "gs1-key", data)
}

// symbolOf fills in the page data about the symbol of a key and about the entries below the key.
func (pages rulePages) symbolOf(v *request, data *gs1KeyView) error {
	const most = 50
	// the first entry of the list is the key data.Key itself
	list, err := v.api.GS1.List(v.ctx(), client.GS1Query{Under: data.Key, Limit: most + 1})
	if err != nil {
		return err
	}
	data.Below, data.More = list[min(1, len(list)):min(len(list), most)], len(list) > most
	data.Kinds, data.Modules = []labels.Kind{labels.GS1QR, labels.GS1DataMatrix}, moduleSizes
	var hosts []string
	all, err := v.api.Settings.Get(v.ctx())
	if err == nil {
		err = json.Unmarshal(all["gs1_hosts"], &hosts)
	}
	if err != nil {
		return err
	}
	if data.Link = len(hosts) > 0; data.Link {
		data.Kinds = append([]labels.Kind{labels.GS1DigitalLink}, data.Kinds...)
	}
	if data.Text != "" {
		return nil
	}
	if key, _, err := gs1.ParseKey(data.Key); err == nil {
		data.Text = gs1.Data{Key: key}.Bracketed()
	}
	if data.Link {
		data.Text = "https://" + hosts[0] + "/" + data.Key
		if len(data.Text) <= symbol.MaxScreenPixels {
			picture, _ := symbol.ForScreen(data.Text) // a text of at most symbol.MaxScreenPixels bytes always fits in a QR code
			data.Picture = template.URL(picture)
		}
	}
	return nil
}

// gs1Symbol sends the symbol of a key, lot or serial as a file, after decoding the symbol and comparing its content.
func (pages rulePages) gs1Symbol(v *request) error {
	q := v.r.URL.Query()
	key, text, file := q.Get("key"), strings.TrimSpace(q.Get("text")), pictureKinds[q.Get("as")]
	said, err := gs1.Parse(text)
	if err != nil || said.Key.String() != key && !strings.HasPrefix(said.Key.String(), key+"/") {
		return pages.showGS1(v, http.StatusUnprocessableEntity, key, gs1KeyView{Text: text, Wrong: v.say("gs1.symbol.below", key)})
	}
	if _, err := v.api.GS1.Get(v.ctx(), key); err != nil {
		return err
	}
	module, err := symbol.ParseLength(q.Get("module"))
	var d symbol.Drawing
	if err == nil && file.write != nil {
		style := symbol.Style{Module: module, DPI: codeDPI, Ink: symbol.Black, Paper: symbol.White}
		d, err = labels.Design{Kind: labels.Kind(q.Get("kind")), Level: 'M', Style: style}.Draw(0, labels.Row{Text: text})
	}
	if err != nil || file.write == nil {
		return pages.showGS1(v, http.StatusUnprocessableEntity, key, gs1KeyView{Text: text, Wrong: v.say("gs1.symbol.none")})
	}
	v.attachment(file.kind, q.Get("kind")+" "+strings.ReplaceAll(said.Key.String(), "/", "_")+"."+q.Get("as"))
	_ = file.write(v.w, d)
	return nil
}

func rfc3339(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// maxGS1Rows is the maximum number of rows of the form.
const maxGS1Rows = 110

// changeGS1 stores the submitted entry of a key, deletes the entry, or undoes a change.
func (pages rulePages) changeGS1(v *request) error {
	key := strings.Trim(v.word("key"), "/")
	var err error
	switch v.word("did") {
	case "delete":
		_, err = v.api.GS1.Delete(v.ctx(), key)
		return v.done(Root+"/gs1?done=saved", err)
	case "undo":
		seq, _ := strconv.ParseInt(v.word("seq"), 10, 64) // a missing number becomes 0, which no change has
		e, err := v.api.GS1.UndoChange(v.ctx(), seq)
		return v.done(Root+"/gs1?done=saved&under="+url.QueryEscape(e.Key), err)
	}
	want := client.GS1Put{Owner: v.word("owner"), WxaAppID: v.word("wxa_appid"), WxaPath: v.word("wxa_path"),
		Archived: v.word("archived") != "", Links: []client.GS1Link{}}
	faults := map[string]string{}
	for i := range maxGS1Rows {
		lookup := func(name string) string { return v.word(name + "_" + strconv.Itoa(i)) }
		if lookup("href") == "" {
			continue
		}
		l := client.GS1Link{LinkType: lookup("linktype"), Href: lookup("href"), Title: lookup("title"),
			Hreflang: strings.Fields(lookup("hreflang")),
			Type:     lookup("type"), Context: strings.Fields(lookup("context")), Default: v.word("default") == strconv.Itoa(i)}
		for name, t := range map[string]**time.Time{"from": &l.From, "until": &l.Until} {
			if lookup(name) == "" {
				continue
			}
			moment, wrong := time.Parse(time.RFC3339, lookup(name))
			if wrong != nil {
				faults[name+"_"+strconv.Itoa(i)] = v.say("gs1.moment")
			}
			*t = &moment
		}
		want.Links = append(want.Links, l)
	}
	if err := v.showInvalid(faults); err != nil {
		return err
	}
	v.fresh = v.word("fresh") != ""
	e, err := v.api.GS1.Set(v.ctx(), key, want)
	if v.fresh && client.PreconditionFailed(err) != nil {
		return v.refuse(http.StatusConflict, "key", v.say("gs1.exists", key))
	}
	return v.done(gs1Page(e.Key)+"&done=saved", err)
}
