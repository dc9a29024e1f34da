package stats_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newRegionFile writes a region database with a few networks and returns its path.
func newRegionFile(t *testing.T) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", IncludeReservedNetworks: true, RecordSize: 24})
	require.NoError(t, err)
	location := func(lat, lon float64) mmdbtype.Map {
		return mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)}
	}
	iso := func(code string) mmdbtype.Map { return mmdbtype.Map{"iso_code": mmdbtype.String(code)} }
	for network, record := range map[string]mmdbtype.Map{
		"203.0.113.0/24":  {"country": iso("CN"), "subdivisions": mmdbtype.Slice{iso("SH")}, "location": location(31.2, 121.5)},
		"198.51.100.0/24": {"country": iso("CN"), "subdivisions": mmdbtype.Slice{iso("BJ")}, "location": location(39.9, 116.4)},
		"192.0.2.0/24":    {"country": iso("DE")},
		"2001:db8::/48":   {"country": iso("FR"), "subdivisions": mmdbtype.Slice{iso("IDF"), iso("75")}},
		"10.1.0.0/16":     {"country": iso("<b>"), "location": location(1000, 0)},
		"10.2.0.0/16":     {"country": mmdbtype.String("a text where a map should be")},
	} {
		_, n, err := net.ParseCIDR(network)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(n, record))
	}
	var b bytes.Buffer
	require.NoError(t, assert.ErrorOf(tree.WriteTo(&b)))
	path := filepath.Join(t.TempDir(), "regions.mmdb")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func TestOpenRegions_LookupAddress(t *testing.T) {
	r := require.Value(stats.OpenRegions(newRegionFile(t)))(t)
	defer r.Close()
	for address, want := range map[string]string{
		"203.0.113.9": "CN-SH", "::ffff:203.0.113.9": "CN-SH", "198.51.100.1": "CN-BJ", "192.0.2.1": "DE",
		"2001:db8:0:1::1": "FR-IDF", "fe80::1%eth0": "", "2001:db8:1::": "", "127.0.0.1": "",
		"10.1.2.3":           "", // the code is invalid
		"10.2.2.3":           "", // the record has another type
		"2001:db8::%25<b>hi": "FR-IDF",
	} {
		assert.Equal(t, r.Lookup(netip.MustParseAddr(address)), want, "Lookup(%s)", address)
	}
	lat, lon, ok := r.Coordinates(netip.MustParseAddr("203.0.113.0"))
	assert.True(t, ok && lat == 31.2 && lon == 121.5, "Coordinates() = %v, %v, %v, want 31.2, 121.5", lat, lon, ok)
	for _, address := range []string{"192.0.2.1", "10.1.0.1", "127.0.0.1"} {
		_, _, ok := r.Coordinates(netip.MustParseAddr(address))
		assert.True(t, !ok, "Coordinates(%s) returns ok, want none", address)
	}
	assert.Equal(t, r.Lookup(netip.Addr{}), "", "Lookup() of the zero address")
	assert.Equal(t, (*stats.Regions)(nil).Lookup(netip.MustParseAddr("203.0.113.9")), "", "Lookup() of nil Regions")
}

func TestOpenRegions_CorruptedFile(t *testing.T) {
	valid := require.Value(os.ReadFile(newRegionFile(t)))(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"empty.mmdb": nil, "text.mmdb": []byte("203.0.113.0/24,CN"), "half.mmdb": valid[:len(valid)/2], "tail.mmdb": valid[len(valid)/2:],
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		r, err := stats.OpenRegions(path)
		if err == nil {
			r.Close()
			t.Errorf("OpenRegions(%s) succeeds, want an error", name)
			continue
		}
		text := err.Error()
		assert.True(t, strings.HasPrefix(text, path+" is ") && !strings.Contains(text, "\n"),
			"OpenRegions(%s) = %q, want one line that names the file", name, text)
	}
	assert.ErrorIs(t, assert.ErrorOf(stats.OpenRegions(filepath.Join(dir, "missing.mmdb"))), os.ErrNotExist, "OpenRegions(missing.mmdb)")
}
