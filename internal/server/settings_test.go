package server_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A null makes a limit unlimited, also after a restart, and changes no other setting.
func TestSettings_NullIsUnlimited(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	current := func() string { return s.Admin("GET", "/settings", "").Body }
	var fields map[string]any
	err := json.Unmarshal([]byte(current()), &fields)
	require.True(t, err == nil && len(fields) >= 30, "%d settings: %v", len(fields), err)
	s.Admin("PUT", "/settings", `{"verification":["vouched.example"],"rule_rate_limit":7,"daily_limits":{"/cgi-bin/stable_token":5},"scan_commit":"async","api_ips":["192.0.2.1"],
		"callback_ips":["192.0.2.2"],"behaviours":{"codes.activate.overlap_taken":"allow"},"api_hosts":["api.example.com"],"apple_app_ids":["ABCDE12345.com.example.app"],
		"android_apps":[{"package":"com.example.app","sha256_cert_fingerprints":["14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5"]}]}`)
	changed := current()
	for _, f := range settings.Table {
		s.Admin("PUT", "/settings", `{"`+f.Name+`":null}`)
		if !f.CanBeUnlimited() {
			require.Equal(t, current(), changed, "null for %s", f.Name)
			continue
		}
		changed = current()
		require.True(t, strings.Contains(changed, `"`+f.Name+`":null`), "null for %s: %s", f.Name, changed)
	}
	s.Stop()
	s = servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	assert.Equal(t, current(), changed, "after a restart")
}
