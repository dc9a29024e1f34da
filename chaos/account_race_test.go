package chaos_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestAccountDelete_RacesWithDependents: one node deletes an account, and another one makes within 20 ms what belongs to it: a
// rule, an application for
// codes, an activation that opens it. Both are acknowledged in no round, and nothing is left without an account.
//
//	ACCOUNT_ROUNDS=1000 go test -run 'TestAccountDelete_RacesWithDependents$' -timeout 60m ./chaos
func TestAccountDelete_RacesWithDependents(t *testing.T) {
	chance := rand.New(rand.NewPCG(testdiag.Seed(t), 0))
	more := another(t, "ACCOUNT_ROUNDS", amount(50, 5), 3)
	c := newCluster(t, ownDatabase(t), strings.Replace(spaceSeed, "rule_rate_limit", "token_daily_limit: 1000000, rule_rate_limit", 1), 2)
	c.start()
	defer c.stop()
	call := func(node int, method, path string, body any) (status int, answer string) {
		text, err := json.Marshal(body)
		require.NoError(t, err)
		req, err := http.NewRequest(method, c.nodes[node].running.Load().URL+path, strings.NewReader(string(text)))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+adminToken)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		assert.True(t, err == nil, "%v", err)
		return resp.StatusCode, string(got)
	}
	admin := must{connect(t, c.nodes[1].running.Load().URL, adminToken), t}
	wire := func(path, token string, body any) bool {
		_, answer := call(1, "POST", path+"?access_token="+url.QueryEscape(token), body)
		return strings.HasPrefix(answer, `{"errcode":0,`)
	}
	brand := admin.stableToken("brand")
	batch := admin.apply(brand, "races", 1_000_000)
	races := []struct {
		name, kind string
		make       func(appid, token string, round int) bool
	}{
		{"qrcodejumpadd", "mini_program", func(appid, token string, _ int) bool {
			return wire("/cgi-bin/wxopen/qrcodejumpadd", token, add("https://"+appid+".example/", "pages/a"))
		}},
		{"applycode", "service_account", func(_, token string, _ int) bool {
			return wire("/intp/marketcode/applycode", token, map[string]any{"code_count": 10_000, "isv_application_id": "a"})
		}},
		{"codeactive", "mini_program", func(appid, _ string, round int) bool {
			first := int64(round * 10)
			return wire("/intp/marketcode/codeactive", brand, activation(batch, first, first+9, appid))
		}},
	}
	rounds, deletedFirst, madeFirst, neither, both := 0, 0, 0, 0, 0
	for ; rounds < 900 && more(rounds); rounds++ { // an account activates codes 1,000 times a day
		for _, race := range races {
			appid := fmt.Sprintf("%s%d", strings.ToLower(race.name), rounds)
			if status, answer := call(0, "PUT", "/admin/v1/accounts/"+appid, map[string]any{"kind": race.kind, "secret": secretOf(appid),
				"certified": true, "features": map[string][]string{"service_account": {"marketcode"}}[race.kind]}); status != 200 {
				t.Fatalf("%s: %d %s", appid, status, answer)
			}
			if race.name == "codeactive" {
				if status, answer := call(0, "PUT", "/admin/v1/accounts/brand/links/"+appid, nil); status/100 != 2 {
					t.Fatalf("link of %s: %d %s", appid, status, answer)
				}
			}
			token := ""
			until(t, "the other node to know "+appid, func() bool {
				var err error
				token, err = admin.connection.stableToken(appid)
				return err == nil
			})
			wait := time.Duration(chance.IntN(40)-20) * time.Millisecond // the other way round where it is negative
			ended := make(chan int)
			go func() {
				time.Sleep(max(0, wait)) // which of the two comes first is the race
				status, _ := call(0, "DELETE", "/admin/v1/accounts/"+appid, nil)
				ended <- status
			}()
			time.Sleep(max(0, -wait)) // the same
			made := race.make(appid, token, rounds)
			switch deleted := <-ended; {
			case deleted/100 == 2 && made:
				both++
				t.Errorf("round %d of %s: both were acknowledged", rounds, race.name)
			case deleted/100 == 2:
				deletedFirst++
			case made:
				madeFirst++
			default:
				neither++
			}
		}
	}
	var verified struct {
		Fault   any
		Orphans []any
	}
	if admin.check(admin.do("POST", "/admin/v1/audit/verify", nil, &verified)); verified.Fault != nil || len(verified.Orphans) > 0 {
		t.Errorf("the audit log: %+v", verified)
	}
	t.Logf("%d rounds of %d races: deleted first %d, made first %d, neither %d, both %d; %d are without an account", rounds, len(races),
		deletedFirst, madeFirst, neither, both, len(verified.Orphans))
}
