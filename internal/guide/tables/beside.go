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
	{"Help of every verb · 每个命令的帮助", "cmd/qrjump/locale", "help"},
	{"What the command line says, errors and next steps among it · 命令行的输出、错误与下一步", "cmd/qrjump/locale", "said"},
	{"What doctor and the start say · doctor 与启动时的输出", "cmd/qrjump/locale", ""},
	{"Refusals of a server · 服务器的拒绝", "internal/refusal/locale", ""},
	{"The file that confirms a link · 校验文件", "internal/verification/locale", ""},
	{"What the setting up of a server says · 服务器启动与配置的输出", "internal/start/locale", ""},
}

// besidePage has each text in both languages in a row, so that one who reads both sees where they differ.
func (p *press) besidePage() string {
	var b strings.Builder
	b.WriteString("# Help and errors in both languages · 帮助与错误的两种语言\n\n" +
		"Printed from the books of the code by `go run ./docs/print`; `%s` and the like stand for what a text is about.\n" +
		"本页由代码中的文本库生成，`%s` 等代表具体内容。\n")
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
		fmt.Fprintf(&b, "\n## %s\n\n| | English | 中文 |\n| --- | --- | --- |\n", of.title)
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
