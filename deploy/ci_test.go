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

// ciService is a server in a file of deploy/ci, as compose, GitHub and GitLab write it.
type ciService struct {
	Name, Alias, Options string
	Command              []string
	Env                  map[string]string
	Networks             struct {
		Default struct{ Aliases []string }
	}
	Healthcheck struct{ Test []string }
}

// There is no container here: the files are read as YAML, and what they tell the program is what it takes.
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
	own, hub, lab := compose.Services["qrjump"], github.Jobs["test"].Services["qrjump"], gitlab["test"].Services[0]
	if got := own.Networks.Default.Aliases; !slices.Equal(got, landing.PlatformNames) {
		t.Errorf("the aliases are %v", got)
	}
	for name, words := range map[string][]string{"compose": own.Command, "gitlab": lab.Command} {
		assert.True(t, len(words) != 0 && words[0] == "serve", "%s starts %q", name, words)
	}
	health := append(own.Healthcheck.Test[1:], strings.Fields(strings.Trim(regexp.MustCompile(`"[^"]*"`).FindString(hub.Options), `"`))...)
	for _, word := range slices.Concat(own.Command, lab.Command, health) {
		if flag := strings.HasPrefix(word, "--"); flag && !strings.Contains(string(page), "`"+word) {
			t.Errorf("there is no flag %s", word)
		}
	}
	for name := range hub.Env {
		flag := "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "QRJUMP_")), "_", "-")
		assert.True(t, strings.Contains(string(page), "`"+flag), "%s is no setting of the program", name)
	}
	assert.True(t, len(hub.Env) != 0 && len(health) >= 5, "read %v and %v", hub.Env, health)
}
