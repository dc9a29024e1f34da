package console

import (
	"encoding/base64"
	"html/template"

	"github.com/qrjump/qrjump/client"
)

// maxAppearance is the maximum size in bytes of a submitted appearance form. Most of the bytes of a form are the logo, whose length the
// admin API limits.
const maxAppearance = 800 << 10

type appearanceView struct {
	AppID string
	Look  client.Appearance
	Logo  template.URL // safe, because the server generated this URL
}

// appearance shows the form for how an account appears to buyers.
func (pages accountPages) appearance(v *request) error {
	data := appearanceView{AppID: v.r.PathValue("appid")}
	err := storeResult(&data.Look)(v.api.Accounts.GetAppearance(v.ctx(), data.AppID))
	if data.Look.Logo != nil {
		data.Logo = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(data.Look.Logo.PNG))
	}
	return v.page("appearance", data, err)
}

// changeAppearance stores the submitted appearance. If the API rejects the values, the form is shown again with the typed values
// but without the file, because a page cannot preset a file input.
func (pages accountPages) changeAppearance(v *request) error {
	appid := v.r.PathValue("appid")
	logo, err := v.upload("logo", "", maxAppearance, v.say("appearance.large"))
	if err != nil {
		return err
	}
	want := client.AppearancePut{Accent: v.r.PostFormValue("accent"), Help: v.r.PostFormValue("help"),
		OpenAtOnce: v.r.PostFormValue("open_at_once") != "", NoLogo: v.r.PostFormValue("no_logo") != "",
		Texts: map[string]client.BuyerTexts{}, Logo: []byte(logo)}
	if v.r.PostFormValue("own_accent") == "" {
		want.Accent = ""
	}
	for _, language := range enums["language"] {
		texts := client.BuyerTexts{App: v.r.PostFormValue("app_" + language), Landing: v.r.PostFormValue("landing_" + language),
			Code: v.r.PostFormValue("code_" + language)}
		if texts != (client.BuyerTexts{}) {
			want.Texts[language] = texts
		}
	}
	// After an edit conflict, a hidden field of the next form contains the uploaded logo, because a page cannot preset a file input.
	if kept := v.r.PostFormValue("logo_kept"); kept != "" && len(want.Logo) == 0 {
		want.Logo, _ = base64.RawURLEncoding.DecodeString(kept) // the admin API rejects bytes that are not an image
	} else if v.r.PostForm != nil && len(want.Logo) > 0 {
		v.r.PostForm.Set("logo_kept", base64.RawURLEncoding.EncodeToString(want.Logo))
	}
	_, err = v.api.Accounts.SetAppearance(v.ctx(), appid, want)
	return v.done(accountPage(appid)+"/appearance?done=appearance", err)
}
