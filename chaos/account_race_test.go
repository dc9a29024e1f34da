package chaos_test

import (
	"encoding/json"
	"fmt"
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

// TestAccountDelete_RacesWithDependents deletes an account through one node while another node, within 20 ms, creates a dependent: a rule,
// an application for codes, or an activation that opens the account. In no round may both calls be acknowledged, and no dependent may
// remain without its account.
//
//	ACCOUNT_ROUNDS=1000 go test -run 'TestAccountDelete_RacesWithDependents$' -timeout 60m ./chaos
func TestAccountDelete_RacesWithDependents(t *testing.T) {
	chance := rand.New(rand.NewPCG(testdiag.Seed(t), 0))
	more := moreRounds(t, "ACCOUNT_ROUNDS", choose(50, 5), 3)
	c := newCluster(t, newDatabase(t), strings.Replace(spaceSeed, "rule_rate_limit", "token_daily_limit: 1000000, rule_rate_limit", 1), 2)
	c.start()
	defer c.stop()
	call := func(node int, method, path string, body any) (status int, text string) {
		sent, err := json.Marshal(body)
		require.NoError(t, err)
		r, err := send(http.DefaultClient, method, c.nodes[node].serverURL()+path, "application/json", string(sent), adminToken)
		assert.NoError(t, err)
		return r.status, r.body
	}
	admin := c.nodes[1].admin()
	wire := func(path, token string, body any) bool {
		_, text := call(1, "POST", path+"?access_token="+url.QueryEscape(token), body)
		return strings.HasPrefix(text, `{"errcode":0,`)
	}
	brand := admin.stableToken("brand")
	batch := admin.apply(brand, "races", 1_000_000)
	races := []struct {
		name, kind string
		create     func(appid, token string, round int) bool
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
	rounds, deletedFirst, createdFirst, neither, both := 0, 0, 0, 0, 0
	for ; rounds < 900 && more(rounds); rounds++ { // the platform allows an account 1,000 activations a day
		for _, race := range races {
			appid := fmt.Sprintf("%s%d", strings.ToLower(race.name), rounds)
			if status, text := call(0, "PUT", "/admin/v1/accounts/"+appid, map[string]any{"kind": race.kind, "secret": secretOf(appid),
				"certified": true, "features": map[string][]string{"service_account": {"marketcode"}}[race.kind]}); status != 200 {
				t.Fatalf("PUT account %s = %d %s, want 200", appid, status, text)
			}
			if race.name == "codeactive" {
				if status, text := call(0, "PUT", "/admin/v1/accounts/brand/links/"+appid, nil); status/100 != 2 {
					t.Fatalf("PUT link of %s = %d %s, want 2xx", appid, status, text)
				}
			}
			token := ""
			waitFor(t, "the other node to accept "+appid, func() bool {
				var err error
				token, err = admin.connection.stableToken(appid)
				return err == nil
			})
			wait := time.Duration(chance.IntN(40)-20) * time.Millisecond // negative: the create call waits
			deletion := make(chan int)
			go func() {
				time.Sleep(max(0, wait)) // the order of the two calls is the race
				status, _ := call(0, "DELETE", "/admin/v1/accounts/"+appid, nil)
				deletion <- status
			}()
			time.Sleep(max(0, -wait)) // as above
			created := race.create(appid, token, rounds)
			switch deleted := <-deletion; {
			case deleted/100 == 2 && created:
				both++
				t.Errorf("round %d of %s: both calls were acknowledged, want at most one", rounds, race.name)
			case deleted/100 == 2:
				deletedFirst++
			case created:
				createdFirst++
			default:
				neither++
			}
		}
	}
	var verified struct {
		Fault   any
		Orphans []any
	}
	if admin.post("/admin/v1/audit/verify", nil, &verified); verified.Fault != nil || len(verified.Orphans) > 0 {
		t.Errorf("audit/verify = %+v, want no fault and no orphans", verified)
	}
	t.Logf("%d rounds of %d races: deleted first %d, created first %d, neither %d, both %d; %d dependents without an account", rounds,
		len(races),
		deletedFirst, createdFirst, neither, both, len(verified.Orphans))
}
