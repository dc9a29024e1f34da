package console

import (
	"strconv"
	"strings"
)

// narrowed is the AppID to which a list is limited: that in the address, or the only one that the
// visitor may see.
func (v *visit) narrowed(name string) string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get(name)); asked != "" || len(v.caller.Accounts) == 0 {
		return asked
	}
	return v.caller.Accounts[0]
}

const pageRows = 50

// shown is the part of a list for which a page has room, from the place on that a field of the
// address names. next is where the list goes on; "" = it ends here.
func shown[T any](v *visit, field string, list []T) (some []T, next string) {
	from, _ := strconv.Atoi(v.r.URL.Query().Get(field))
	from = min(max(from, 0), len(list))
	to := min(from+pageRows, len(list))
	if to < len(list) {
		next = strconv.Itoa(to)
	}
	return list[from:to], next
}
