package client

import (
	"context"
	"net/http"
)

// Appearance is the branding of an account on the pages that buyers see.
type Appearance struct {
	AppID      string                `json:"appid"`
	Accent     string                `json:"accent" doc:"background colour of the button, #rrggbb; empty = default colour"`
	OnAccent   string                `json:"on_accent,omitempty" doc:"text colour on the accent, the one with more contrast: #ffffff or #000000"`
	Help       string                `json:"help" doc:"https URL of a help page"`
	OpenAtOnce bool                  `json:"open_at_once" doc:"if true, browsers are redirected to the account's url_scheme; otherwise the page shows a button"`
	Texts      map[string]BuyerTexts `json:"texts" doc:"texts by language: en, zh"`
	Logo       *Logo                 `json:"logo,omitempty"`
	HasRevision
}

// BuyerTexts holds an account's texts for the pages that buyers see, in one language.
type BuyerTexts struct {
	App     string `json:"app,omitempty" doc:"name of the scanning app as users know it, at most 40 characters"`
	Landing string `json:"landing,omitempty" doc:"text on the page of a link, at most 300 characters"`
	Code    string `json:"code,omitempty" doc:"text below the verdict on a code, at most 300 characters"`
}

// Logo is the logo of an account, as it is shown on the pages for buyers.
type Logo struct {
	Path   string `json:"path" doc:"path of the image on every host that serves pages"`
	Width  int    `json:"width" doc:"width in pixels"`
	Height int    `json:"height" doc:"height in pixels"`
	PNG    []byte `json:"png"`
}

// AppearancePut is the requested branding of an account. An omitted field is cleared, except the logo, which remains unchanged.
type AppearancePut struct {
	Accent     string                `json:"accent,omitempty" maxLength:"7" doc:"background colour of the button, #rrggbb"`
	Help       string                `json:"help,omitempty" maxLength:"512" doc:"https URL of a help page"`
	OpenAtOnce bool                  `json:"open_at_once,omitempty"`
	Texts      map[string]BuyerTexts `json:"texts,omitempty" doc:"texts by language: en, zh"`
	Logo       []byte                `json:"logo,omitempty" doc:"PNG, JPEG or WebP file; omit to keep the stored logo"`
	NoLogo     bool                  `json:"no_logo,omitempty" doc:"if true, removes the logo"`
}

// Put returns an AppearancePut that leaves the appearance and the logo unchanged.
func (a Appearance) Put() AppearancePut {
	return AppearancePut{Accent: a.Accent, Help: a.Help, OpenAtOnce: a.OpenAtOnce, Texts: a.Texts}
}

// GetAppearance returns the branding of an account on the pages that buyers see. If no branding is set, the result contains only the AppID.
func (c AccountsService) GetAppearance(ctx context.Context, appid string) (Appearance, error) {
	return OpGetAppearance.call(ctx, c.transport, Empty{}, appid)
}

// SetAppearance sets the branding of an account and returns the new branding.
func (c AccountsService) SetAppearance(ctx context.Context, appid string, want AppearancePut) (Appearance, error) {
	a, err := OpPutAppearance.call(ctx, c.transport, want, appid)
	if err == nil && a.AppID != appid {
		err = c.invalidResponse(http.MethodPut, OpPutAppearance.url(appid), "it is about account %q", a.AppID)
	}
	return a, err
}
