package main

import (
	"io"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type accountAppearance struct {
	operator
	AppID      string  `arg:"" name:"appid"`
	Accent     *string `placeholder:"RRGGBB"`
	HelpLink   *string `placeholder:"URL"`
	OpenAtOnce *bool   `negatable:""`
	Logo       string  `placeholder:"FILE" xor:"logo" file:"in"`
	NoLogo     bool    `xor:"logo"`

	AppEn     *string `placeholder:"TEXT"`
	AppZh     *string `placeholder:"TEXT"`
	LandingEn *string `placeholder:"TEXT"`
	LandingZh *string `placeholder:"TEXT"`
	CodeEn    *string `placeholder:"TEXT"`
	CodeZh    *string `placeholder:"TEXT"`
}

// changed returns the appearance with the values of the flags; found is false if no flags are set.
func (c *accountAppearance) changed(have client.Appearance) (want client.AppearancePut, found bool, err error) {
	want = have.Put()
	if c.Accent != nil && *c.Accent != "" { // the "#" of the colour is optional, because shells treat "#" as the start of a comment
		*c.Accent = "#" + strings.ToLower(strings.TrimPrefix(*c.Accent, "#"))
	}
	en, zh := want.Texts["en"], want.Texts["zh"]
	for _, f := range []struct{ to, from *string }{{&want.Accent, c.Accent}, {&want.Help, c.HelpLink}, {&en.App, c.AppEn},
		{&zh.App, c.AppZh}, {&en.Landing, c.LandingEn}, {&zh.Landing, c.LandingZh}, {&en.Code, c.CodeEn}, {&zh.Code, c.CodeZh}} {
		if f.from != nil {
			*f.to, found = *f.from, true
		}
	}
	want.Texts = map[string]client.BuyerTexts{}
	for language, texts := range map[string]client.BuyerTexts{"en": en, "zh": zh} {
		if texts != (client.BuyerTexts{}) {
			want.Texts[language] = texts
		}
	}
	if c.OpenAtOnce != nil {
		want.OpenAtOnce, found = *c.OpenAtOnce, true
	}
	if c.Logo != "" {
		if want.Logo, err = logoOf(c.Logo); err != nil {
			return want, false, err
		}
	}
	want.NoLogo = c.NoLogo
	return want, found || c.NoLogo || c.Logo != "", nil
}

// maxLogo is the maximum size of a logo in bytes; the server enforces the same limit on uploads.
const maxLogo = 512 << 10

func logoOf(name string) ([]byte, error) {
	logo, err := readSome(name, maxLogo+1)
	switch {
	case err != nil:
		return nil, err
	case len(logo) == 0:
		return nil, misused("account_appearance.logo_the_file_is_empty", name)
	case len(logo) > maxLogo:
		return nil, misused("account_appearance.logo_more_than_512_kib", name)
	}
	return logo, nil
}

// Run shows how customers see an account; if flags are set, Run first changes the appearance.
func (c *accountAppearance) Run(s *session, qrjump *client.Client) error {
	look, err := qrjump.Accounts.GetAppearance(s.ctx, c.AppID)
	if err != nil {
		return aboutAccount(s, qrjump, tr("account_appearance.show_how_buyers_see"), c.AppID, err)
	}
	want, changes, err := c.changed(look)
	if err != nil {
		return err
	}
	if changes {
		if look, err = qrjump.Accounts.SetAppearance(client.IfMatch(s.ctx, look.Revision), c.AppID, want); err != nil {
			return aboutAccount(s, qrjump, tr("account_appearance.change_how_buyers_see"), c.AppID,
				describeConflict("qrjump account appearance "+c.AppID, err))
		}
	}
	return c.print(s, look, nil, func(w io.Writer) { printAppearance(w, look) })
}

func printAppearance(w io.Writer, a client.Appearance) {
	accent, logo := a.Accent, ""
	if accent != "" {
		accent += tr("account_appearance.with_text_in") + a.OnAccent
	}
	if a.Logo != nil {
		logo = tr("account_appearance.pixels_at", a.Logo.Width, a.Logo.Height, a.Logo.Path)
	}
	en, zh := a.Texts["en"], a.Texts["zh"]
	printFields(w, [2]string{"appid", a.AppID}, [2]string{"accent", accent}, [2]string{"help", a.Help},
		[2]string{"open at once", yesNo(a.OpenAtOnce)}, [2]string{"logo", logo}, [2]string{"app en", en.App}, [2]string{"app zh", zh.App},
		[2]string{"landing en", en.Landing}, [2]string{"landing zh", zh.Landing},
		[2]string{"code en", en.Code}, [2]string{"code zh", zh.Code})
}
