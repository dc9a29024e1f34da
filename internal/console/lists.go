package console

import (
	"encoding/json"
	"strings"
)

func jsonOf(a *answered, out any) error { return json.Unmarshal(a.body.Bytes(), out) }

// narrowed is an AppID that a list is limited to: what the address says, or the only
// one that the visitor may see.
func (v *visit) narrowed(name string) string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get(name)); asked != "" || len(v.caller.Accounts) == 0 {
		return asked
	}
	return v.caller.Accounts[0]
}

const pageRows = 50
