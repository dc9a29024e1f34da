package server_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A null changes no setting, and one that an earlier version stored hinders no start.
func TestSettings_NullIgnored(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	current := func() string { return s.Admin("GET", "/settings", "").Body }
	var fields map[string]any
	if err := json.Unmarshal([]byte(current()), &fields); err != nil || len(fields) < 30 {
		t.Fatalf("%d settings: %v", len(fields), err)
	}
	s.Admin("PUT", "/settings", `{"verification":["vouched.example"],"rule_rate_limit":7,"daily_limits":{"/cgi-bin/stable_token":5},"scan_commit":"async","api_ips":["192.0.2.1"],
		"callback_ips":["192.0.2.2"],"behaviours":{"codes.activate.overlap_taken":"allow"},"api_hosts":["api.example.com"],"apple_app_ids":["ABCDE12345.com.example.app"],
		"android_apps":[{"package":"com.example.app","sha256_cert_fingerprints":["14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5"]}]}`)
	changed := current()
	for name := range fields {
		s.Admin("PUT", "/settings", `{"`+name+`":null}`)
		require.Equal(t, current(), changed, "null for %s", name)
		fields[name] = nil
	}
	s.Stop()
	// An earlier version stored what it was sent.
	nulls, err := json.Marshal(fields)
	require.NoError(t, err)
	db, err := store.Open(t.Context(), store.Target{Dir: data})
	require.NoError(t, err)
	require.NoError(t, db.PutMeta(t.Context(), "settings", string(nulls)))
	db.Close()
	s = servertest.Start(t, servertest.Options{Data: data, Seed: shop, Guarded: true, Emulator: true})
	want, err := json.Marshal(settings.Defaults())
	require.NoError(t, err)
	if got := strings.TrimSpace(current()); got != string(want) {
		t.Errorf("after the upgrade: %s, want %s", got, want)
	}
}
