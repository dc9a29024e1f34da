package accounts

import "context"

// Author is who makes changes, and through which call.
type Author struct {
	Actor string // AppID, "admin", "seed", or "server" for what nobody asked for
	Via   string // the third-party platform that called for the actor; "" = none
	RID   string // "" where no call of the wire made it
}

type authorKey struct{}

// By says who makes the changes that are made with the context that it returns.
func By(ctx context.Context, a Author) context.Context { return context.WithValue(ctx, authorKey{}, a) }

// AuthorOf is whom By named last. A context that names nobody is one of the
// server's own parts; the edges name an author in all others.
func AuthorOf(ctx context.Context) Author {
	if a, ok := ctx.Value(authorKey{}).(Author); ok {
		return a
	}
	return Author{Actor: "server"}
}
