package docgen

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
)

// clientRow is a line of docs/clients.ndjson, which the compatibility tests write.
type clientRow struct {
	Language, Name, Version, Result, Line string
	SDK                                   bool
}

// clientsPage lists the HTTP clients and the SDKs that were tested under qrjump run.
func (p *press) clientsPage(language) any {
	var page struct {
		Clients, SDKs []clientRow
		Count         map[string]int // Number of HTTP clients per result.
	}
	page.Count = map[string]int{}
	text, err := os.ReadFile(filepath.Join(p.root, "docs/clients.ndjson"))
	for rows := json.NewDecoder(bytes.NewReader(text)); err == nil && rows.More(); {
		var c clientRow
		err = rows.Decode(&c)
		if c.SDK {
			page.SDKs = append(page.SDKs, c)
		} else {
			page.Clients = append(page.Clients, c)
			page.Count[c.Result]++
		}
	}
	if err != nil {
		p.reportMissing("docs/clients.ndjson: %w", err)
	}
	return page
}
