package adminapi

import (
	"context"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/branding"
)

func showAppearance(a branding.Appearance, png []byte) client.Appearance {
	shown := client.Appearance{AppID: a.AppID, Accent: string(a.Accent), Help: a.Help, OpenAtOnce: a.OpenAtOnce,
		Texts: map[string]client.BuyerTexts{}}
	if a.Accent != "" {
		shown.OnAccent = string(a.Accent.On())
	}
	for language, texts := range a.Texts {
		shown.Texts[string(language)] = client.BuyerTexts(texts)
	}
	if a.Logo.Hash != "" {
		shown.Logo = &client.Logo{Path: a.Logo.Path(), Width: a.Logo.Width, Height: a.Logo.Height, PNG: png}
	}
	drawn := shown
	if shown.Logo != nil {
		drawn.Logo = &client.Logo{Path: shown.Logo.Path} // the path contains the hash of the image
	}
	shown.Revised = revisionOf(drawn)
	return shown
}

// AppearancePath identifies the account whose appearance a call changes.
type AppearancePath struct{ AppIDPath }

func (a accountAPI) getAppearance(ctx context.Context, in *AppIDPath) (client.Appearance, error) {
	appearance, png, err := a.Appearances.Get(ctx, in.AppID)
	return showAppearance(appearance, png), err
}

func (a accountAPI) putAppearance(ctx context.Context, in *struct {
	AppearancePath
	Body client.AppearancePut
}) (client.Appearance, error) {
	b := in.Body
	wanted := branding.Appearance{AppID: in.AppID, Accent: branding.Colour(b.Accent), Help: b.Help, OpenAtOnce: b.OpenAtOnce,
		Texts: map[branding.Language]branding.Texts{}}
	for language, texts := range b.Texts {
		wanted.Texts[branding.Language(language)] = branding.Texts(texts)
	}
	err := a.Appearances.Put(ctx, wanted, branding.NewLogo{File: b.Logo, Remove: b.NoLogo})
	return readAfter(ctx, err, a.getAppearance, &in.AppIDPath)
}
