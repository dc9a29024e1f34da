package client

import (
	"context"
	"net/http"
)

// Appearance is the branding of an account on the pages that buyers see.
type Appearance struct {
	AppID      string                `json:"appid"`
	Accent     string                `json:"accent" doc:"#rrggbb, ground of the button; empty = the pages' own"`
	OnAccent   string                `json:"on_accent,omitempty" doc:"colour of text on it: #ffffff or #000000, whichever has more contrast"`
	Help       string                `json:"help" doc:"an https address"`
	OpenAtOnce bool                  `json:"open_at_once" doc:"a browser is sent to the account's url_scheme without a page; else the page has a button"`
	Texts      map[string]BuyerTexts `json:"texts" doc:"by language: en, zh"`
	Logo       *Logo                 `json:"logo,omitempty"`
	Revised
}

// BuyerTexts holds an account's texts in one language.
type BuyerTexts struct {
	App     string `json:"app,omitempty" doc:"what users call the app that scans, 40 characters at most"`
	Landing string `json:"landing,omitempty" doc:"on the page of a link, 300 characters at most"`
	Code    string `json:"code,omitempty" doc:"below the verdict on a code, 300 characters at most"`
}

// Logo is an image in the form that the pages for buyers show.
type Logo struct {
	Path   string `json:"path" doc:"on every host that has pages"`
	Width  int    `json:"width" doc:"in pixels"`
	Height int    `json:"height" doc:"in pixels"`
	PNG    []byte `json:"png"`
}

// AppearancePut is the requested branding of an account. An omitted field is cleared, except the logo, which remains unchanged.
type AppearancePut struct {
	Accent     string                `json:"accent,omitempty" maxLength:"7" doc:"#rrggbb"`
	Help       string                `json:"help,omitempty" maxLength:"512" doc:"an https address"`
	OpenAtOnce bool                  `json:"open_at_once,omitempty"`
	Texts      map[string]BuyerTexts `json:"texts,omitempty" doc:"by language: en, zh"`
	Logo       []byte                `json:"logo,omitempty" doc:"a file as PNG, JPEG or WebP; left out: what is there stays"`
	NoLogo     bool                  `json:"no_logo,omitempty" doc:"remove the logo"`
}

// Put returns an AppearancePut that leaves the appearance and the logo unchanged.
func (a Appearance) Put() AppearancePut {
	return AppearancePut{Accent: a.Accent, Help: a.Help, OpenAtOnce: a.OpenAtOnce, Texts: a.Texts}
}

// GetAppearance returns the branding of an account on the pages that buyers see. If no branding is set, the result contains only
// the AppID.
func (c AccountsService) GetAppearance(ctx context.Context, appid string) (Appearance, error) {
	return get[Appearance](ctx, c.transport, accountPath(appid, "appearance"))
}

// SetAppearance sets the branding of an account and returns the new branding.
func (c AccountsService) SetAppearance(ctx context.Context, appid string, want AppearancePut) (Appearance, error) {
	a, err := put[Appearance](ctx, c.transport, accountPath(appid, "appearance"), want)
	if err == nil && a.AppID != appid {
		err = c.wrong(http.MethodPut, "/admin/v1/"+accountPath(appid, "appearance"), "it tells of account %q", a.AppID)
	}
	return a, err
}
