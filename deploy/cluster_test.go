package deploy

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	nats "github.com/nats-io/nats-server/v2/server"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// composed is what cluster/compose.yaml says of its parts.
type composed struct {
	Services map[string]composedService
	Networks map[string]struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
	Volumes map[string]any
}

type composedService struct {
	Image       string
	Restart     string
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Networks    map[string]struct {
		Address string `yaml:"ipv4_address"`
	}
}

// compose reads a text of compose.yaml, with the variables that stand in a .env file.
func compose(t *testing.T, text string, variables map[string]string) (c composed) {
	t.Helper()
	text = regexp.MustCompile(`\$\{(\w+)[^}]*\}`).ReplaceAllStringFunc(text, func(found string) string {
		name := regexp.MustCompile(`\w+`).FindString(found)
		assert.True(t, variables[name] != "", "compose.yaml wants %s, which its first lines put into no .env", name)
		return variables[name]
	})
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict(), yaml.AllowFieldPrefixes("x-", "build", "read_only", "cap_drop",
		"security_opt", "tmpfs", "stop_", "user")); err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("cluster", name))
	require.NoError(t, err)
	return string(text)
}

// dotEnv are the variables that the first lines of compose.yaml put into .env.
func dotEnv(t *testing.T) map[string]string {
	t.Helper()
	list := regexp.MustCompile(`for name in ([A-Z_ ]+); do`).FindStringSubmatch(clusterFile(t, "compose.yaml"))
	require.True(t, list != nil, "compose.yaml says no more how .env is made")
	variables := map[string]string{}
	for i, name := range strings.Fields(list[1]) {
		variables[name] = strings.Repeat(fmt.Sprintf("%x", 10+i), 64)
	}
	return variables
}

// Issue 29, 8: the parts of cluster/compose.yaml fit together.
func TestClusterCompose_Consistent(t *testing.T) {
	c := compose(t, clusterFile(t, "compose.yaml"), dotEnv(t))
	subnet := netip.MustParsePrefix(c.Networks["cluster"].IPAM.Config[0].Subnet)
	addresses := map[string]string{}
	images := map[string]int{}
	for name, service := range c.Services {
		address := service.Networks["cluster"].Address
		if is, err := netip.ParseAddr(address); err != nil || !subnet.Contains(is) || addresses[address] != "" {
			t.Errorf("%s has the address %q, as %q or outside of %s", name, address, addresses[address], subnet)
		}
		addresses[address] = name
		image, _, _ := strings.Cut(service.Image, ":")
		images[image]++
		assert.True(t, service.Restart != "", "%s does not say when it is started again", name)
		for _, volume := range service.Volumes {
			source := strings.Split(volume, ":")[0]
			if !strings.HasPrefix(source, "./") {
				if _, is := c.Volumes[source]; !is || source != name {
					t.Errorf("%s has the volume %q, which is not its own", name, source)
				}
				continue
			}
			clusterFile(t, source)
		}
	}
	want := map[string]int{"qrjump": 2, "postgres": 2, "nats": 3, "haproxy": 1}
	assert.True(t, maps.Equal(images, want), "the cluster is %v, want %v", images, want)
	for _, name := range []string{"compose.yaml", "haproxy.cfg", "nats.conf", "qrjump.yaml", "pg_hba.conf", "systemd/environment",
		"systemd/postgres.env", "systemd/nats.env"} {
		for _, found := range regexp.MustCompile(`10\.77\.0\.[1-9]\d*`).FindAllString(clusterFile(t, name), -1) {
			assert.True(t, addresses[found] != "", "%s names %s, and no part has that address", name, found)
		}
	}

	// The files for systemd say what compose.yaml says.
	for file, name := range map[string]string{"environment": "node1", "postgres.env": "postgres1", "nats.env": "nats1"} {
		alone, together := map[string]string{}, c.Services[name].Environment
		for line := range strings.SplitSeq(clusterFile(t, "systemd/"+file), "\n") {
			if key, value, is := strings.Cut(line, "="); is && !strings.HasPrefix(key, "#") {
				alone[key] = value
			}
		}
		if name == "postgres1" {
			alone["PGDATA"] = together["PGDATA"] // in the unit
		}
		for _, key := range slices.Sorted(maps.Keys(together)) {
			said := together[key]
			for secret, value := range dotEnv(t) {
				if said == value {
					said = ""
				}
				said = strings.ReplaceAll(said, value, secret)
			}
			if is, ok := alone[key]; !ok || strings.Trim(is, `'`) != said {
				t.Errorf("systemd/%s says %s=%s, and compose.yaml %q", file, key, is, said)
			}
			delete(alone, key)
		}
		assert.True(t, len(alone) <= 0, "systemd/%s has what compose.yaml lacks: %q", file, alone)
	}
	for file, path := range map[string]string{"qrjump-postgres.service": "/etc/qrjump/postgres.sh",
		"qrjump-nats.service": "/etc/qrjump/nats.conf", "qrjump-haproxy.service": "/etc/qrjump/haproxy.cfg"} {
		assert.True(t, strings.Contains(clusterFile(t, "systemd/"+file), path), "systemd/%s does not use %s", file, path)
	}
}

// Issue 29, 8: NATS takes its configuration, and flushes what it acknowledges, which the nodes are told by flush=vouched.
func TestClusterNATS_ConfigValid(t *testing.T) {
	for name, service := range compose(t, clusterFile(t, "compose.yaml"), dotEnv(t)).Services {
		if !strings.HasPrefix(name, "nats") {
			continue
		}
		for key, value := range service.Environment {
			t.Setenv(key, value)
		}
		o, err := nats.ProcessConfigFile("cluster/nats.conf")
		require.NoError(t, err)
		if address := service.Networks["cluster"].Address; o.ServerName != name || o.Host != address || o.Cluster.Host != address ||
			o.Password != dotEnv(t)["NATS_PASSWORD"] || !o.SyncAlways || !o.JetStream || len(o.Routes) != 3 {
			t.Errorf("%s is %s at %s, with others at %s; it flushes always: %v", name, o.ServerName, o.Host, o.Cluster.Host, o.SyncAlways)
		}
	}
}

// Issue 29, 8: HAProxy takes its configuration, and asks each listener whether it can do what it is for.
func TestClusterHAProxy_ConfigValid(t *testing.T) {
	text := clusterFile(t, "haproxy.cfg")
	for backend, kind := range map[string]string{"wire": "change", "scans": "scan", "admin": "change"} {
		_, rest, _ := strings.Cut(text, "\nbackend "+backend+"\n")
		rest, _, _ = strings.Cut(rest, "\n\n")
		assert.True(t, strings.Contains(rest, "option httpchk GET /readyz?for="+kind+"\n") && strings.Count(rest, "  server ") == 2,
			"backend %s asks two nodes for something else than %s:\n%s", backend, kind, rest)
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not here to read it")
	}
	if out, err := exec.Command("haproxy", "-c", "-f", "cluster/haproxy.cfg").CombinedOutput(); err != nil ||
		strings.Contains(string(out), "WARNING") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Issue 29, 8: systemd takes the units.
func TestClusterSystemd_UnitsValid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	units, err := filepath.Glob("cluster/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		// Programs that are not on this machine are no fault of the unit.
		here := filepath.Join(t.TempDir(), filepath.Base(unit))
		own := regexp.MustCompile(`(?m)^(Exec\w+=)/\S+`).ReplaceAll(text, []byte("${1}/bin/sh"))
		require.NoError(t, os.WriteFile(here, own, 0o644))
		out, err := exec.Command("systemd-analyze", "--no-pager", "verify", "--man=no", here).CombinedOutput()
		assert.True(t, err == nil && len(out) <= 0, "%s: %v\n%s", unit, err, out)
	}
}
