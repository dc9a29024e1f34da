package accounts

import "context"

// Actor identifies the author of a change and the API call that made the change.
type Actor struct {
	ActorID string // AppID, "admin", "seed", or "server" for changes without a request
	Via     string // AppID of the component that made the call on behalf of the actor; "" = none
	RID     string // request ID of the API call; "" if no platform API call made the change
}

type authorKey struct{}

// WithActor returns a context that makes the given actor the author of all changes made with the context.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// ActorFromContext returns the actor that WithActor set last. If the context has no actor, ActorFromContext returns the actor "server":
// HTTP handlers set an actor for every request, so only the server's background work has none.
func ActorFromContext(ctx context.Context) Actor {
	if a, ok := ctx.Value(authorKey{}).(Actor); ok {
		return a
	}
	return Actor{ActorID: "server"}
}
