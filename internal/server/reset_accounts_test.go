package server_test

import (
	_ "embed"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/two_suites.yaml
var twoSuites string

// TestResetAccounts_ConcurrentSuites verifies that two test suites that share a server can each reset their own accounts: neither suite
// loses rules, quota or tokens by a reset of the other.
func TestResetAccounts_ConcurrentSuites(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: twoSuites})
	operator := require.Value(client.New(s.URL, client.Options{AdminToken: servertest.AdminToken}))(t)
	// A suite spends the publish quota of its account and fails if rules or tokens disappear before its own reset.
	suite := func(n int) error {
		shop, brand := fmt.Sprint("suite", n), fmt.Sprint("brand", n)
		want := func(number int, appid, path, body string) error {
			token := s.Do("POST", "/cgi-bin/stable_token",
				fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":"secret-%s"}`, appid, appid)).Text(t, "access_token")
			if a := s.Do("POST", path+"?access_token="+token, body); a.Code(t) != number {
				return fmt.Errorf("%s %s = %s, want errcode %d", path, body, a.Body, number)
			}
			return nil
		}
		rule := "/cgi-bin/wxopen/qrcodejump"
		for i := range 3 {
			prefix := fmt.Sprintf(`https://%s.example/%d/`, shop, i)
			if err := want(0, shop, rule+"add", fmt.Sprintf(
				`{"prefix":%q,"path":"pages/index/index","is_edit":0,"permit_sub_rule":1,"open_version":3}`, prefix)); err != nil {
				return err
			}
			number := 0
			if i == 2 {
				number = 886000 // this suite's publish quota is spent
			}
			if err := want(number, shop, rule+"publish", fmt.Sprintf(`{"prefix":%q}`, prefix)); err != nil {
				return err
			}
		}
		if err := want(0, brand, "/intp/marketcode/applycode", `{"code_count":10000,"isv_application_id":"one"}`); err != nil {
			return err
		}
		scan := fmt.Sprintf(`{"text":"https://%s.example/0/x","user":"u"}`, shop)
		if a := s.Do("POST", "/scan/v1/resolve", scan); a.Status != http.StatusOK {
			return fmt.Errorf("scan = %d %s, want 200", a.Status, a.Body)
		}
		old := s.NewToken(shop)
		if err := operator.Emulator.ResetAccounts(t.Context(), []string{shop, brand}); err != nil {
			return err
		}
		if a := s.Do("POST", rule+"get?access_token="+old, "{}"); a.Code(t) != 40001 {
			return fmt.Errorf("a token from before the reset: %s, want errcode 40001", a.Body)
		}
		var list struct {
			Rules []struct{ Prefix string } `json:"rule_list"`
		}
		a := s.Do("POST", rule+"get?access_token="+s.NewToken(shop), "{}")
		if a.JSON(t, &list); len(list.Rules) != 1 || list.Rules[0].Prefix != fmt.Sprintf("https://%s.example/seed/", shop) {
			return fmt.Errorf("rules after the reset: %s, want the seeded rule", a.Body)
		}
		calls, err := operator.Calls.ListPersisted(t.Context(), client.CallLogQuery{CallSearch: client.CallSearch{Account: brand}})
		if err != nil || len(calls.Calls) != 0 {
			return fmt.Errorf("%d calls of %s are left, %v", len(calls.Calls), brand, err)
		}
		return nil
	}
	var both sync.WaitGroup
	for n := range 2 {
		both.Go(func() {
			for round := range 4 {
				assert.NoErrorf(t, suite(n), "suite %d, round %d", n, round)
			}
		})
	}
	both.Wait()
}
