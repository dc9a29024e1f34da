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

// composeFile is the content of cluster/compose.yaml.
type composeFile struct {
	Services map[string]composeService
	Networks map[string]struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
	Volumes map[string]any
}

type composeService struct {
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

// parseCompose parses the text of compose.yaml with the variables of a .env file.
func parseCompose(t *testing.T, text string, variables map[string]string) (c composeFile) {
	t.Helper()
	text = regexp.MustCompile(`\$\{(\w+)[^}]*\}`).ReplaceAllStringFunc(text, func(found string) string {
		name := regexp.MustCompile(`\w+`).FindString(found)
		assert.True(t, variables[name] != "", "compose.yaml uses %s, which the command in its first lines does not write to .env", name)
		return variables[name]
	})
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict(), yaml.AllowFieldPrefixes("x-", "build", "read_only", "cap_drop",
		"security_opt", "tmpfs", "stop_", "user")); err != nil {
		t.Fatal(err)
	}
	return c
}

func readClusterFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("cluster", name))
	require.NoError(t, err)
	return string(text)
}

// envFile returns variables for .env: those that the command in the first lines of compose.yaml writes, with different values.
func envFile(t *testing.T) map[string]string {
	t.Helper()
	list := regexp.MustCompile(`for name in ([A-Z_ ]+); do`).FindStringSubmatch(readClusterFile(t, "compose.yaml"))
	require.True(t, list != nil, "the first lines of compose.yaml have no command that writes .env")
	variables := map[string]string{}
	for i, name := range strings.Fields(list[1]) {
		variables[name] = strings.Repeat(fmt.Sprintf("%x", 10+i), 64)
	}
	return variables
}

// TestClusterCompose_Consistent verifies the addresses, volumes and images of cluster/compose.yaml, and that the configuration files and
// the files for systemd agree with it.
func TestClusterCompose_Consistent(t *testing.T) {
	c := parseCompose(t, readClusterFile(t, "compose.yaml"), envFile(t))
	subnet := netip.MustParsePrefix(c.Networks["cluster"].IPAM.Config[0].Subnet)
	addresses := map[string]string{}
	images := map[string]int{}
	for name, service := range c.Services {
		address := service.Networks["cluster"].Address
		if ip, err := netip.ParseAddr(address); err != nil || !subnet.Contains(ip) || addresses[address] != "" {
			t.Errorf("address of %s = %q, also of %q, want a unique one in %s", name, address, addresses[address], subnet)
		}
		addresses[address] = name
		image, _, _ := strings.Cut(service.Image, ":")
		images[image]++
		assert.True(t, service.Restart != "", "%s has no restart policy", name)
		for _, volume := range service.Volumes {
			source := strings.Split(volume, ":")[0]
			if !strings.HasPrefix(source, "./") {
				if _, ok := c.Volumes[source]; !ok || source != name {
					t.Errorf("%s has the volume %q, want one with its name", name, source)
				}
				continue
			}
			readClusterFile(t, source)
		}
	}
	want := map[string]int{"qrjump": 2, "postgres": 2, "nats": 3, "haproxy": 1}
	assert.True(t, maps.Equal(images, want), "images = %v, want %v", images, want)
	for _, name := range []string{"compose.yaml", "haproxy.cfg", "nats.conf", "qrjump.yaml", "pg_hba.conf", "systemd/environment",
		"systemd/postgres.env", "systemd/nats.env"} {
		for _, found := range regexp.MustCompile(`10\.77\.0\.[1-9]\d*`).FindAllString(readClusterFile(t, name), -1) {
			assert.True(t, addresses[found] != "", "%s has the address %s, want that of a service", name, found)
		}
	}

	// The files for systemd have the environment of compose.yaml.
	for file, name := range map[string]string{"environment": "node1", "postgres.env": "postgres1", "nats.env": "nats1"} {
		got, want := map[string]string{}, c.Services[name].Environment
		for line := range strings.SplitSeq(readClusterFile(t, "systemd/"+file), "\n") {
			if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(key, "#") {
				got[key] = value
			}
		}
		if name == "postgres1" {
			got["PGDATA"] = want["PGDATA"] // the unit sets it
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			value := want[key]
			for secret, text := range envFile(t) {
				if value == text {
					value = ""
				}
				value = strings.ReplaceAll(value, text, secret)
			}
			if unit, ok := got[key]; !ok || strings.Trim(unit, `'`) != value {
				t.Errorf("systemd/%s has %s=%s, want %q as in compose.yaml", file, key, unit, value)
			}
			delete(got, key)
		}
		assert.True(t, len(got) == 0, "systemd/%s has variables that compose.yaml lacks: %q", file, got)
	}
	for file, path := range map[string]string{"qrjump-postgres.service": "/etc/qrjump/postgres.sh",
		"qrjump-nats.service": "/etc/qrjump/nats.conf", "qrjump-haproxy.service": "/etc/qrjump/haproxy.cfg"} {
		assert.True(t, strings.Contains(readClusterFile(t, "systemd/"+file), path), "systemd/%s does not use %s", file, path)
	}
}

// TestClusterNATS_ConfigValid verifies that NATS accepts its configuration and flushes messages before it acknowledges them: the nodes rely
// on this (flush=vouched).
func TestClusterNATS_ConfigValid(t *testing.T) {
	for name, service := range parseCompose(t, readClusterFile(t, "compose.yaml"), envFile(t)).Services {
		if !strings.HasPrefix(name, "nats") {
			continue
		}
		for key, value := range service.Environment {
			t.Setenv(key, value)
		}
		o, err := nats.ProcessConfigFile("cluster/nats.conf")
		require.NoError(t, err)
		if address := service.Networks["cluster"].Address; o.ServerName != name || o.Host != address || o.Cluster.Host != address ||
			o.Password != envFile(t)["NATS_PASSWORD"] || !o.SyncAlways || !o.JetStream || len(o.Routes) != 3 {
			t.Errorf("configuration of %s: name %s, host %s, cluster host %s, sync always %v, want those of compose.yaml", name,
				o.ServerName, o.Host, o.Cluster.Host, o.SyncAlways)
		}
	}
}

// TestClusterHAProxy_ConfigValid verifies that HAProxy accepts its configuration, and that the health check of each backend is for its kind
// of requests.
func TestClusterHAProxy_ConfigValid(t *testing.T) {
	text := readClusterFile(t, "haproxy.cfg")
	for backend, kind := range map[string]string{"wire": "change", "scans": "scan", "admin": "change"} {
		_, rest, _ := strings.Cut(text, "\nbackend "+backend+"\n")
		rest, _, _ = strings.Cut(rest, "\n\n")
		assert.True(t, strings.Contains(rest, "option httpchk GET /readyz?for="+kind+"\n") && strings.Count(rest, "  server ") == 2,
			"backend %s, want two servers with a health check for %s:\n%s", backend, kind, rest)
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not here to read it")
	}
	if out, err := exec.Command("haproxy", "-c", "-f", "cluster/haproxy.cfg").CombinedOutput(); err != nil ||
		strings.Contains(string(out), "WARNING") {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
}

// TestClusterSystemd_UnitsValid verifies that systemd accepts the units.
func TestClusterSystemd_UnitsValid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	units, err := filepath.Glob("cluster/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units = %q, %v, want 3", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		// The programs of the units need not be installed on this machine.
		file := filepath.Join(t.TempDir(), filepath.Base(unit))
		text = regexp.MustCompile(`(?m)^(Exec\w+=)/\S+`).ReplaceAll(text, []byte("${1}/bin/sh"))
		require.NoError(t, os.WriteFile(file, text, 0o644))
		out, err := exec.Command("systemd-analyze", "--no-pager", "verify", "--man=no", file).CombinedOutput()
		assert.True(t, err == nil && len(out) == 0, "systemd-analyze verify %s: %v\n%s", unit, err, out)
	}
}
