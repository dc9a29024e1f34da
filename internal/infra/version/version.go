// Package version knows which qrjump this is.
package version

import (
	"runtime/debug"
	"sync"
)

// unreleased is the version of a build that no tag names.
const unreleased = "0.1.0"

const module = "github.com/qrjump/qrjump"

// A release sets these by -ldflags "-X"; they are strings for that reason.
var (
	number string // as 0.1.0, without the v of the tag
	commit string // the whole hash
	date   string // of the commit, RFC 3339, UTC
)

// Info describes the build of a program. What is not known is empty.
type Info struct {
	Version string `json:"version"` // as 0.1.0
	Commit  string `json:"commit"`  // the whole hash of it, with "+changes" where the tree had some
	Date    string `json:"date"`    // of the commit, RFC 3339, UTC
}

// Get returns what the release wrote into the program; without a release, what
// the Go command knew when it built it.
var Get = sync.OnceValue(func() Info {
	if number != "" {
		return Info{Version: number, Commit: commit, Date: date}
	}
	build, _ := debug.ReadBuildInfo()
	return infoOf(build)
})

// Number returns the version alone.
func Number() string { return Get().Version }

// of reads the notes of a build, which may be that of a program that only uses
// the module.
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
