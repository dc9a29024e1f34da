// Package version reports the version of this program.
package version

import (
	"runtime/debug"
	"sync"
)

// unreleased is the version of a build without a release tag.
const unreleased = "0.1.0"

const module = "github.com/qrjump/qrjump"

// A release build sets number, commit and date with -ldflags "-X", which only supports strings.
var (
	number string // for example 0.1.0, without the tag's v
	commit string // the whole hash
	date   string // commit time, RFC 3339, UTC
)

// Info describes the build of the program. Unknown fields are empty.
type Info struct {
	Version string `json:"version"` // as 0.1.0
	Commit  string `json:"commit"`  // the full commit hash, followed by "+changes" if the working tree was modified
	Date    string `json:"date"`    // commit time, RFC 3339, UTC
}

// Get returns the version that a release build has set; otherwise the information that the Go command recorded in the binary.
var Get = sync.OnceValue(func() Info {
	if number != "" {
		return Info{Version: number, Commit: commit, Date: date}
	}
	build, _ := debug.ReadBuildInfo()
	return infoOf(build)
})

// Number returns only the version number.
func Number() string { return Get().Version }

// infoOf reads the build information, which may belong to a program that only imports the module.
func infoOf(build *debug.BuildInfo) Info {
	i := Info{Version: unreleased}
	if build == nil {
		return i
	}
	for _, m := range append([]*debug.Module{&build.Main}, build.Deps...) {
		if m.Path != module || m.Version == "" || m.Version == "(devel)" {
			continue
		}
		i.Version = m.Version[1:] // without the v
	}
	if build.Main.Path != module {
		return i
	}
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			i.Commit = s.Value + i.Commit
		case s.Key == "vcs.time":
			i.Date = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			i.Commit += "+changes"
		}
	}
	return i
}
