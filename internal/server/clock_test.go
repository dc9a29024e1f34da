package server_test

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestEmulatorClock_AdvanceDuringWrites moves the emulator's clock under concurrent writes. Saving the clock waits for the database's
// single writer, which reads the clock, so it would find a deadlock between the two.
func TestEmulatorClock_AdvanceDuringWrites(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Admin("PUT", "/settings", `{"token_daily_limit":1000000}`)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop",
					""); a.Status != 200 {
					t.Errorf("token = %d %s, want 200", a.Status, a.Body)
					return
				}
			}
		})
	}
	for range 60 {
		s.Admin("PUT", "/emulator/clock", `{"advance":"61s"}`).WantStatus(t, 200, "moving the clock")
	}
	close(stop)
	writers.Wait()
}

//go:embed testdata/seeds/platform.yaml
var componentSeed string

func TestPlatformUpdate_OmittedFieldsKept(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: componentSeed})
	a := s.Admin("PUT", "/components/isv", `{"secret":"isv-secret-2"}`)
	s.RegisterSecret("isv-secret-2")
	assert.True(t, strings.Contains(a.Body, `"ip_allowlist":["127.0.0.0/8"]`) &&
		strings.Contains(a.Body, `"redirect_hosts":["isv.example"]`), "after a PUT of the secret: %s, want no other change", a.Body)
	assert.Contains(t, s.Admin("PUT", "/components/isv", `{"ip_allowlist":[]}`).Body, `"ip_allowlist":[]`, "component after an empty list")
}

// TestSeed_RevokesUnlistedGrant verifies that a seed without a grant revokes its tokens, also if a later seed grants it again.
func TestSeed_RevokesUnlistedGrant(t *testing.T) {
	t.Parallel()
	data := t.TempDir() + "/data"
	startWith := func(authorizations string) *servertest.Server {
		return servertest.Start(t, servertest.Options{Data: data, Seed: componentSeed + "    authorizations: " + authorizations + "\n"})
	}
	s := startWith("[{appid: shop, permission_sets: [18]}]")
	ticket := struct {
		Ticket string `json:"component_verify_ticket"`
	}{}
	s.Admin("POST", "/emulator/ticket", `{"component":"isv"}`).JSON(t, &ticket)
	post := func(path, body string, into any) {
		t.Helper()
		a := s.Do("POST", path, body, "Content-Type: application/json")
		require.True(t, a.Status == 200, "%s: %d %s", path, a.Status, a.Body)
		a.JSON(t, into)
	}
	var token struct {
		Text string `json:"component_access_token"`
	}
	post("/cgi-bin/component/api_component_token",
		fmt.Sprintf(`{"component_appid":"isv","component_appsecret":"isv-secret-1","component_verify_ticket":%q}`, ticket.Ticket), &token)
	var list struct {
		List []struct {
			Refresh string `json:"refresh_token"`
		}
	}
	post("/cgi-bin/component/api_get_authorizer_list?component_access_token="+token.Text, `{"component_appid":"isv","offset":0,"count":10}`,
		&list)
	require.True(t, len(list.List) == 1, "authorizations = %+v, want one", list)
	var authorizer struct {
		Text string `json:"authorizer_access_token"`
	}
	post("/cgi-bin/component/api_authorizer_token?component_access_token="+token.Text,
		fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":%q}`, list.List[0].Refresh), &authorizer)
	call := func() int {
		return s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+authorizer.Text, "{}").Code(t)
	}
	require.Equal(t, call(), 0, "with the grant")
	s.Stop()
	s = startWith("[]")
	assert.True(t, call() != 0, "a call after the grant was revoked = errcode 0, want an error")
	s.Stop()
	s = startWith("[{appid: shop, permission_sets: [18]}] # again")
	assert.True(t, call() != 0, "a call with the old token under the new grant = errcode 0, want an error")
}
