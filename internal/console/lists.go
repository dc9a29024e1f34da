package console

import (
	"strconv"
	"strings"
)

// narrowed is an AppID that a list is limited to: what the address says, or the only
// one that the visitor may see.
func (v *visit) narrowed(name string) string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get(name)); asked != "" || len(v.caller.Accounts) == 0 {
		return asked
	}
	return v.caller.Accounts[0]
}

const pageRows = 50

// shown is what a page has room for of a list that comes whole, from the place that a field
// of the address says; next is where it goes on, "" = nowhere.
func shown[T any](v *visit, field string, list []T) (some []T, next string) {
	from, _ := strconv.Atoi(v.r.URL.Query().Get(field))
	from = min(max(from, 0), len(list))
	to := min(from+pageRows, len(list))
	if to < len(list) {
		next = strconv.Itoa(to)
	}
	return list[from:to], next
}
