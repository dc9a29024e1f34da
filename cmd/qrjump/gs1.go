package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type gs1List struct {
	operator
	Key   string `arg:"" optional:""`
	Under string `placeholder:"KEY"`
	Owner string `placeholder:"APPID"`
}

const maxGS1 = 1000

// everyGS1 returns all GS1 entries that match the query.
func everyGS1(s *session, qrjump *client.Client, q client.GS1Query) ([]client.GS1Entry, error) {
	return everyPage(maxGS1, func(lastEntry client.GS1Entry) ([]client.GS1Entry, error) {
		q.After, q.Limit = lastEntry.Key, maxGS1
		return qrjump.GS1.List(s.ctx, q)
	})
}

// Run lists the targets of GS1 keys, or shows the entry of one key.
func (c *gs1List) Run(s *session, qrjump *client.Client) error {
	if c.Key != "" {
		e, err := qrjump.GS1.Get(s.ctx, c.Key)
		return c.print(s, e, failed("show", c.Key, err), func(w io.Writer) { printGS1(w, e) })
	}
	list, err := everyGS1(s, qrjump, client.GS1Query{Under: c.Under, Owner: c.Owner})
	return listing[client.GS1Entry]{name: "entries",
		none:  tr("gs1.none"),
		heads: []string{"KEY", "OWNER", "LINKS", "DEFAULT", "OPENS"}, row: func(e client.GS1Entry) []string {
			return []string{e.Key, orDash(e.Owner), number(int64(len(e.Links))), orDash(defaultOf(e)), orDash(e.WxaPath)}
		}}.print(s, c.outputFlags, list, failed("list", "GS1 keys", err))
}

// defaultOf returns the address of the default link of a GS1 key, or the word "archived".
func defaultOf(e client.GS1Entry) string {
	if e.Archived {
		return "archived"
	}
	for _, l := range e.Links {
		if l.Default {
			return l.Href
		}
	}
	return ""
}

func printGS1(w io.Writer, e client.GS1Entry) {
	printFields(w, [2]string{"key", e.Key}, [2]string{"owner", e.Owner},
		[2]string{"opens", strings.TrimSpace(e.WxaAppID + " " + e.WxaPath)},
		[2]string{"archived", yesNo(e.Archived)}, [2]string{"changed", formatTime(e.UpdatedAt)})
	if len(e.Links) == 0 {
		return
	}
	printRows(w, []string{"TYPE", "HREF", "TITLE", "FOR", "CONTEXT", "", "WHEN"}, e.Links, func(l client.GS1Link) []string {
		return []string{l.LinkType, l.Href, l.Title, strings.TrimSpace(strings.Join(append(l.Hreflang, l.Type), " ")),
			strings.Join(l.Context, " "), textIf(l.Default, "default"), activePeriod(l)}
	})
}

// activePeriod returns the period in which a link is active; "" means always.
func activePeriod(l client.GS1Link) string {
	text := ""
	if l.From != nil {
		text = "from " + formatTime(*l.From)
	}
	if l.Until != nil {
		text += " until " + formatTime(*l.Until)
	}
	return strings.TrimSpace(text)
}

type gs1Set struct {
	operator
	Key      string `arg:""`
	LinkType string `name:"linktype" default:"gs1:pip" placeholder:"TYPE"`
	Href     string `placeholder:"URL"`
	Title    string
	Hreflang []string
	Type     string   `placeholder:"TYPE"`
	Context  []string `name:"for-context"`
	Default  *bool    `negatable:""`
	From     string   `placeholder:"TIME"`
	Until    string   `placeholder:"TIME"`
	Owner    *string  `placeholder:"APPID"`
	WxaAppID *string  `name:"wxa-appid" placeholder:"APPID"`
	WxaPath  *string  `placeholder:"PATH"`
	Archived *bool    `negatable:""`
}

// Run creates or changes the entry of a GS1 key; fields without a flag remain unchanged. A new link replaces an existing link if both have
// the same type, languages, media type and context.
func (c *gs1Set) Run(s *session, qrjump *client.Client) error {
	e, err := qrjump.GS1.Get(s.ctx, c.Key)
	fresh := false
	if isNotFound(err) {
		fresh, err = true, nil
		e.Links = []client.GS1Link{}
	}
	if err != nil {
		return failed("set", c.Key, err)
	}
	if err := c.apply(&e, fresh); err != nil {
		return err
	}
	ctx := client.IfMatch(s.ctx, e.Revision)
	if fresh {
		ctx = client.IfNoneMatch(s.ctx)
	}
	e, err = qrjump.GS1.Set(ctx, c.Key, e.GS1Put)
	return c.print(s, e, failed("set", c.Key, describeConflict("qrjump gs1 list "+shellWord(c.Key), err)),
		func(w io.Writer) { printGS1(w, e) })
}

func (c *gs1Set) apply(e *client.GS1Entry, fresh bool) error {
	assign(&e.Owner, c.Owner)
	assign(&e.WxaAppID, c.WxaAppID)
	assign(&e.WxaPath, c.WxaPath)
	assign(&e.Archived, c.Archived)
	if c.Href == "" {
		if fresh && c.WxaPath == nil && c.Archived == nil {
			return misused("gs1.missing_link", plain(c.Key))
		}
		if c.Title+c.Type+c.From+c.Until != "" || len(c.Hreflang)+len(c.Context) > 0 || c.Default != nil || c.LinkType != "gs1:pip" {
			return misused("gs1.no_href", plain(c.Key))
		}
		return nil
	}
	link := client.GS1Link{LinkType: c.LinkType, Href: c.Href, Title: c.Title, Hreflang: c.Hreflang, Type: c.Type, Context: c.Context}
	for _, entry := range []struct {
		name, text string
		at         **time.Time
	}{{"--from", c.From, &link.From}, {"--until", c.Until, &link.Until}} {
		if entry.text == "" {
			continue
		}
		t, err := parseTime(entry.name, entry.text, true)
		if err != nil {
			return err
		}
		*entry.at = new(t.UTC())
	}
	kind := func(l client.GS1Link) string {
		return fmt.Sprint(l.LinkType, l.Hreflang, l.Type, l.Context)
	}
	pos := len(e.Links)
	for i, gS1Link := range e.Links {
		if kind(gS1Link) == kind(link) {
			pos = i
		}
	}
	switch link.Default = len(e.Links) == 0; {
	case c.Default != nil:
		link.Default = *c.Default
	case pos < len(e.Links):
		link.Default = e.Links[pos].Default
	}
	if link.Default && c.Default != nil { // The new default link replaces the previous one.
		for i := range e.Links {
			e.Links[i].Default = false
		}
	}
	e.Links = append(e.Links[:pos:pos], append([]client.GS1Link{link}, e.Links[min(pos+1, len(e.Links)):]...)...)
	return nil
}

type gs1Delete struct {
	operator
	Key string `arg:""`
	confirmFlag
}

// Run deletes the entry of a GS1 key.
func (c *gs1Delete) Run(s *session, qrjump *client.Client) error {
	if err := c.confirmed(s, tr("gs1.deletes_links", plain(c.Key))); err != nil {
		return err
	}
	e, err := qrjump.GS1.Delete(s.ctx, c.Key)
	return c.outcome(s, e, failed("delete", c.Key, err), "gs1.deleted", plain(e.Key), counted(len(e.Links), "link"))
}

type gs1Transfer struct {
	operator
	Of     string `arg:"" name:"key|prefix"`
	To     string `required:"" placeholder:"APPID"`
	DryRun bool
	confirmFlag
}

// Run transfers a GS1 key, or a company prefix with its keys, to another account.
func (c *gs1Transfer) Run(s *session, qrjump *client.Client) error {
	want := client.GS1Transfer{Key: c.Of, To: c.To, DryRun: true}
	done, err := qrjump.GS1.Transfer(s.ctx, want)
	if err == nil && !c.DryRun {
		if err := c.confirmed(s, tr("gs1.transfers", plain(c.Of), counted(done.Keys, "gs1_key"), plain(c.To))); err != nil {
			return err
		}
		want.DryRun = false
		done, err = qrjump.GS1.Transfer(s.ctx, want)
	}
	text := textOr(c.DryRun, "gs1.transfers", "gs1.transferred")
	return c.outcome(s, done, failed("transfer", c.Of, err), text, plain(c.Of), counted(done.Keys, "gs1_key"), plain(c.To))
}
