// Package unsupported knows the paths of the platform that this server does not offer and that programs are likely to
// call: those that lie nearest to what it offers, read in the source of libraries that are in use.
package unsupported

import (
	"embed"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// A Path is one of the platform's.
type Path struct {
	Path string
	SDKs string // libraries whose source has it
}

// A Family is what several paths are for.
type Family struct {
	name  string
	Paths []Path
}

// Is says what the paths of a family are for, and Do what a caller does who needs them here.
func (f Family) Is() i18n.Message { return book.Text(f.name) }
func (f Family) Do() i18n.Message { return book.Text(f.name + ".do") }

// Families returns all, the nearest first.
func Families() []Family { return families }

// Lookup returns the family of a path; false = no path of the platform that is known.
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
