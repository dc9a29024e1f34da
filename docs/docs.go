// Package docs holds the pages of the guide as they are written, and the words that
// tables in the code lack in Chinese.
package docs

import "embed"

// Pages are the pages in Markdown, below "en" and "zh" under the same names.
//
//go:embed en zh
var Pages embed.FS

// Words is the Chinese of what tables in the code say in English, in YAML.
//
//go:embed words.yaml
var Words []byte
