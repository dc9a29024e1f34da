package api_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

type listed struct {
	RuleList []struct {
		Prefix        string
		Path          string
		State         int
		PermitSubRule *int      `json:"permit_sub_rule"`
		OpenVersion   *int      `json:"open_version"`
		DebugURL      *[]string `json:"debug_url"`
	} `json:"rule_list"`
	Open  int `json:"qrcodejump_open"`
	Size  int `json:"list_size"`
	Quota int `json:"qrcodejump_pub_quota"`
	Total int `json:"total_count"`
}

func (l listed) prefixes() string {
	var list []string
	for _, r := range l.RuleList {
		list = append(list, r.Prefix[strings.LastIndex(r.Prefix, "/")+1:])
	}
	return strings.Join(list, " ")
}

func list(t *testing.T, s *servertest.Server, appid, body string) listed {
	t.Helper()
	l := servertest.Decode[listed](t, s.OK(appid, "get", body))
	assert.True(t, l.Size == len(l.RuleList), "list_size is %d of %d rules", l.Size, len(l.RuleList))
	return l
}

// Contract: rules 1.3: the 10,000 most recently added. The rules come in one
// transaction below the server, because as many calls would take a minute.
func TestQRCodeJumpGet_NewestTenThousand(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	servertest.Start(t, servertest.Options{Seed: town, Data: data}).Stop()
	kept, err := store.Open(t.Context(), store.Target{Dir: data})
	require.NoError(t, err)
	err = kept.UpdateRules(t.Context(), func(tx rules.Tx) error {
		for n := range 10_001 {
			p, err := rules.ParsePrefix(fmt.Sprint(q, n), rules.KindService, false)
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
	require.NoError(t, errors.Join(err, kept.Close()))
	s := servertest.Start(t, servertest.Options{Seed: town, Data: data})
	l := list(t, s, "svc", `{"appid":"shop"}`)
	if l.Size != 10_000 || l.Total != 10_001 || l.RuleList[0].Prefix != q+"10000" || l.RuleList[9_999].Prefix != q+"1" {
		t.Errorf("size %d, total %d, from %s to %s", l.Size, l.Total, l.RuleList[0].Prefix, l.RuleList[len(l.RuleList)-1].Prefix)
	}
	l = list(t, s, "svc", `{"appid":"shop","get_type":2,"page_num":51,"page_size":200}`)
	assert.True(t, l.prefixes() == "10000" && l.Total == 10_001, "the last page has %q of %d", l.prefixes(), l.Total)
}
