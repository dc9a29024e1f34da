package accounts_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestAccountSearch_PageEqualsFullSort verifies that Find, which sorts only a part of the accounts, returns the page of the full order.
func TestAccountSearch_PageEqualsFullSort(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(31, 3))
	for range 300 {
		var all []*accounts.Account
		for i := range r.IntN(200) {
			all = append(all, &accounts.Account{AppID: fmt.Sprintf("wx%03d", i), Name: string(rune('a' + r.IntN(5)))})
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		q := accounts.Search{Order: accounts.ByName, Sees: func(string) bool { return true }, Offset: r.IntN(30), Limit: r.IntN(40),
			Substring: []string{"", "a", "wx00", "WX007"}[r.IntN(4)]}
		var want []*accounts.Account
		for _, a := range all {
			if part := strings.ToLower(q.Substring); strings.Contains(a.AppID, part) || strings.Contains(a.Name, part) {
				want = append(want, a)
			}
		}
		slices.SortFunc(want, func(a, b *accounts.Account) int { return strings.Compare(a.Name+a.AppID, b.Name+b.AppID) })
		if i := slices.IndexFunc(want, func(a *accounts.Account) bool { return strings.EqualFold(a.AppID, q.Substring) }); i > 0 {
			exact := want[i]
			want = slices.Insert(slices.Delete(want, i, i+1), 0, exact)
		}
		total := len(want)
		from := min(q.Offset, total)
		want = want[from:min(from+q.Limit, total)]
		texts := map[*accounts.Account]string{}
		for _, a := range all {
			texts[a] = a.SearchText()
		}
		page, n := accounts.Find(maps.All(texts), q)
		require.True(t, n == total && slices.Equal(page, want),
			"%+v of %d: %d of %d, want %d of %d", q.Substring, len(all), len(page), n, len(want), total)
	}
}
