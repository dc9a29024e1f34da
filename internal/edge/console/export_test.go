package console

import (
	"maps"
	"slices"
)

// Routes returns the patterns of all pages and forms, including the sign-in pages.
func Routes() []string {
	return append(slices.Sorted(maps.Keys(routes())), slices.Sorted(maps.Keys((&Console{}).waysIn()))...)
}
