// Package docs holds the pages of the guide as they are written.
package docs

import "embed"

// Pages are the pages in Markdown, below "en" and "zh" under the same names.
//
//go:embed en zh
var Pages embed.FS

// Wire is the document of the platform's calls, OpenAPI 3.1.
//
//go:embed openapi-wire.json
var Wire []byte
