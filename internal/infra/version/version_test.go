package version

import (
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestVersion_FromBuildInfo(t *testing.T) {
	newModule := func(v string) debug.Module { return debug.Module{Path: module, Version: v} }
	for name, test := range map[string]struct {
		build *debug.BuildInfo
		want  Info
	}{
		"no notes":   {nil, Info{Version: unreleased}},
		"no version": {&debug.BuildInfo{Main: newModule("(devel)")}, Info{Version: unreleased}},
		"a tag, and a changed tree": {&debug.BuildInfo{Main: newModule("v0.2.0+dirty"), Settings: []debug.BuildSetting{
			{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-01T00:00:00Z"}}},
			Info{Version: "0.2.0+dirty", Commit: "abc+changes", Date: "2026-11-01T00:00:00Z"}},
		// The commit of another main module is not that of qrjump.
		"inside another's test": {&debug.BuildInfo{Main: debug.Module{Path: "shop.example/shop", Version: "v9.9.9"},
			Deps: []*debug.Module{{Path: module, Version: "v0.3.0"}}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}},
			Info{Version: "0.3.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			diff := cmp.Diff(test.want, infoOf(test.build))
			assert.True(t, diff == "", "infoOf differs (-want +got):\n%s", diff)
		})
	}
}
