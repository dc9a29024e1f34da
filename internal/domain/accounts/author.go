package accounts

import "context"

// Actor identifies the author of a change and the call that made it.
type Actor struct {
	ActorID string // AppID, "admin", "seed", or "server" for changes without a request
	Via     string // the third-party platform that called for the actor; "" = none
	RID     string // "" where no call of the wire made it
}

type authorKey struct{}

// WithActor says who makes the changes that are made with the context that it returns.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// ActorFromContext returns the actor that By set last. A context without an actor belongs to the server's own components; the edges
// set one for every request.
func ActorFromContext(ctx context.Context) Actor {
	if a, ok := ctx.Value(authorKey{}).(Actor); ok {
		return a
	}
	return Actor{ActorID: "server"}
}
