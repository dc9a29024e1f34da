package tables

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// besideBooks are the books whose texts stand side by side, with what they hold.
var besideBooks = []struct{ title, folder, book string }{
	{"Help of every verb", "cmd/qrjump/locale", "help"},
	{"What the command line says, errors and next steps among it", "cmd/qrjump/locale", "said"},
	{"What doctor and the start say", "cmd/qrjump/locale", ""},
	{"Refusals of a server", "internal/refusal/locale", ""},
	{"The file that confirms a link", "internal/verification/locale", ""},
	{"What the setting up of a server says", "internal/start/locale", ""},
}

// besidePage has each text in both languages in a row, so that one who reads both sees where they differ.
func (p *press) besidePage() string {
	var b strings.Builder
	b.WriteString("# Help and errors in both languages\n\n" +
		"Printed from the books of the code by `go run ./docs/print`; `%s` and the like stand for what a text is about.\n")
	for _, of := range besideBooks {
		texts := [2]map[string]string{}
		for i, l := range languages {
			name := strings.TrimPrefix(of.book+"."+l.Code+".json", ".")
			file, err := os.ReadFile(filepath.Join(p.root, of.folder, name))
			if err == nil {
				err = json.Unmarshal(file, &texts[i])
			}
			if err != nil {
				p.faults = append(p.faults, fmt.Errorf("%s: %w", name, err))
				return ""
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n| | English | Chinese |\n| --- | --- | --- |\n", of.title)
		for _, key := range slices.Sorted(maps.Keys(texts[0])) {
			other, is := texts[1][key]
			if !is { // Chinese has no form for one
				other = texts[1][strings.TrimSuffix(key, ".one")]
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimPrefix(key, of.book+"."), besideCell(texts[0][key]), besideCell(other))
		}
	}
	return b.String()
}

var besideCell = strings.NewReplacer("|", `\|`, "\n", "<br>", "<", "&lt;", "*", `\*`).Replace
