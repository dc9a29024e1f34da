package deploy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// ciService is a service of a file in deploy/ci, with the fields of Compose, GitHub and GitLab.
type ciService struct {
	Name, Alias, Options string
	Command              []string
	Env                  map[string]string
	Networks             struct {
		Default struct{ Aliases []string }
	}
	Healthcheck struct{ Test []string }
}

// TestCIServices_ValidFlags verifies that the commands and variables of the CI examples are flags and settings of the program. It parses
// the files as YAML and starts no container.
func TestCIServices_ValidFlags(t *testing.T) {
	page, err := os.ReadFile("../docs/en/commands.md")
	require.NoError(t, err)
	var compose struct{ Services map[string]ciService }
	var github struct {
		Jobs map[string]struct{ Services map[string]ciService }
	}
	var gitlab map[string]struct{ Services []ciService }
	for name, into := range map[string]any{"compose.yaml": &compose, "github.yml": &github, "gitlab.yml": &gitlab} {
		text, err := os.ReadFile("ci/" + name)
		require.NoError(t, err)
		require.NoErrorf(t, yaml.Unmarshal(text, into), "%s", name)
	}
	local, hub, lab := compose.Services["qrjump"], github.Jobs["test"].Services["qrjump"], gitlab["test"].Services[0]
	if got := local.Networks.Default.Aliases; !slices.Equal(got, landing.PlatformNames) {
		t.Errorf("aliases in compose.yaml = %v, want %v", got, landing.PlatformNames)
	}
	for name, words := range map[string][]string{"compose": local.Command, "gitlab": lab.Command} {
		assert.True(t, len(words) != 0 && words[0] == "serve", "command of %s = %q, want serve", name, words)
	}
	options := strings.Trim(regexp.MustCompile(`"[^"]*"`).FindString(hub.Options), `"`)
	health := append(local.Healthcheck.Test[1:], strings.Fields(options)...)
	for _, word := range slices.Concat(local.Command, lab.Command, health) {
		if flag := strings.HasPrefix(word, "--"); flag && !strings.Contains(string(page), "`"+word) {
			t.Errorf("the files use %s, want a flag of commands.md", word)
		}
	}
	for name := range hub.Env {
		flag := "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "QRJUMP_")), "_", "-")
		assert.True(t, strings.Contains(string(page), "`"+flag), "github.yml sets %s, want a variable of the program", name)
	}
	assert.True(t, len(hub.Env) != 0 && len(health) >= 5, "variables %v and health checks %v, want some", hub.Env, health)
}
