// Package unsupported lists platform API paths that this server does not offer and that client programs are likely to call: paths
// that are related to the offered paths and occur in the source of widely used client libraries.
package unsupported

import (
	"embed"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// A Path is an API path of the platform.
type Path struct {
	Path string
	SDKs string // client libraries whose source contains the path
}

// A Family is a group of paths with the same purpose.
type Family struct {
	name  string
	Paths []Path
}

// Is describes the purpose of the paths in a family, and Do describes the alternative on this server.
func (f Family) Is() i18n.Message { return book.Text(f.name) }
func (f Family) Do() i18n.Message { return book.Text(f.name + ".do") }

// Families returns all families, the most closely related to the offered calls first.
func Families() []Family { return families }

// Lookup returns the family of a path; false = the path is not in the list.
func Lookup(path string) (Family, bool) {
	for _, f := range families {
		for _, p := range f.Paths {
			if p.Path == path {
				return f, true
			}
		}
	}
	return Family{}, false
}
