package accounts

import "context"

// Actor is who makes changes, and through which call.
type Actor struct {
	ActorID string // AppID, "admin", "seed", or "server" for what nobody asked for
	Via     string // the third-party platform that called for the actor; "" = none
	RID     string // "" where no call of the wire made it
}

type authorKey struct{}

// WithActor says who makes the changes that are made with the context that it returns.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// ActorFromContext is whom By named last. A context that names nobody is one of the
// server's own parts; the edges name an author in all others.
func ActorFromContext(ctx context.Context) Actor {
	if a, ok := ctx.Value(authorKey{}).(Actor); ok {
		return a
	}
	return Actor{ActorID: "server"}
}
