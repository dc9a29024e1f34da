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

// catalogs lists the message catalogs that SideBySide prints, in order.
var catalogs = []struct{ title, folder, name string }{
	{"Help of every verb", "cmd/qrjump/locale", "help"},
	{"What the command line says, errors and next steps among it", "cmd/qrjump/locale", "said"},
	{"What doctor and the start say", "cmd/qrjump/locale", ""},
	{"Refusals of a server", "internal/refusal/locale", ""},
	{"The file that confirms a link", "internal/verification/locale", ""},
	{"What the setting up of a server says", "internal/start/locale", ""},
}

// SideBySide returns a page with each text for people in English and Chinese in one row, for reviewers of a translation.
// root is the folder of the repository.
func SideBySide(root string) (string, error) {
	var b strings.Builder
	b.WriteString("# Help and errors in both languages\n\n" +
		"Printed by `go run ./docs/print -side-by-side`; `%s` and the like are placeholders.\n")
	for _, catalog := range catalogs {
		texts := [2]map[string]string{}
		for i, l := range languages {
			name := strings.TrimPrefix(catalog.name+"."+l.Code+".json", ".")
			file, err := os.ReadFile(filepath.Join(root, catalog.folder, name))
			if err == nil {
				err = json.Unmarshal(file, &texts[i])
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n| | English | Chinese |\n| --- | --- | --- |\n", catalog.title)
		for _, key := range slices.Sorted(maps.Keys(texts[0])) {
			chinese, ok := texts[1][key]
			if !ok { // Chinese has no form for one
				chinese = texts[1][strings.TrimSuffix(key, ".one")]
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimPrefix(key, catalog.name+"."), escapeCell(texts[0][key]),
				escapeCell(chinese))
		}
	}
	return b.String(), nil
}

var escapeCell = strings.NewReplacer("|", `\|`, "\n", "<br>", "<", "&lt;", "*", `\*`).Replace
