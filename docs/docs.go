// Package docs embeds the pages of the guide.
package docs

import "embed"

// Pages contains the Markdown pages of the guide, and their pictures; the folders "en" and "zh" contain files of the same names.
//
//go:embed en zh pictures/*.svg
var Pages embed.FS

// Wire is the OpenAPI 3.1 document of the platform's calls.
//
//go:embed openapi-wire.json
var Wire []byte
