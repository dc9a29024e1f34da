package api_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// ruleList has the fields of a response of qrcodejumpget that tests compare.
type ruleList struct {
	RuleList []struct{ Prefix string } `json:"rule_list"`
	Size     int                       `json:"list_size"`
	Total    int                       `json:"total_count"`
}

func listRules(t *testing.T, s *servertest.Server, appid, body string) ruleList {
	t.Helper()
	l := servertest.Decode[ruleList](t, s.OK(appid, "get", body))
	assert.True(t, l.Size == len(l.RuleList), "list_size = %d, want %d rules", l.Size, len(l.RuleList))
	return l
}

// TestQRCodeJumpGet_NewestTenThousand verifies that a list is limited to the 10,000 most recently added rules. The rules are inserted in
// one transaction of the store, because 10,001 calls take a minute. Contract: rules 1.3.
func TestQRCodeJumpGet_NewestTenThousand(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	servertest.Start(t, servertest.Options{Seed: town, Data: data}).Stop()
	db, err := store.Open(t.Context(), store.Target{Dir: data})
	require.NoError(t, err)
	err = db.UpdateRules(t.Context(), func(tx rules.Tx) error {
		for n := range 10_001 {
			p, err := rules.ParsePrefix(fmt.Sprint(codeURLPrefix, n), rules.KindService, false)
			if err != nil {
				return err
			}
			r := rules.Rule{Kind: rules.KindService, Owner: "svc", Target: "shop", Prefix: p, Path: "p", CreatedAt: servertest.Began,
				UpdatedAt: servertest.Began}
			if _, err := tx.AddRule(t.Context(), r, rules.ChangeMeta{At: servertest.Began, Action: "add"}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, errors.Join(err, db.Close()))
	s := servertest.Start(t, servertest.Options{Seed: town, Data: data})
	l := listRules(t, s, "svc", `{"appid":"shop"}`)
	if l.Size != 10_000 || l.Total != 10_001 || l.RuleList[0].Prefix != codeURLPrefix+"10000" ||
		l.RuleList[9_999].Prefix != codeURLPrefix+"1" {
		t.Errorf("list of size %d, total %d, from %s to %s, want 10000 of 10001", l.Size, l.Total, l.RuleList[0].Prefix,
			l.RuleList[len(l.RuleList)-1].Prefix)
	}
	l = listRules(t, s, "svc", `{"appid":"shop","get_type":2,"page_num":51,"page_size":200}`)
	assert.True(t, l.Size == 1 && l.RuleList[0].Prefix == codeURLPrefix+"10000" && l.Total == 10_001, "last page = %+v, want rule 10000", l)
}
