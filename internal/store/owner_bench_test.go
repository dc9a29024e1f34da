package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// BenchmarkOwner is what an owner's calls cost by how many rules the owner has, on SQLite:
//
//	go test ./internal/store -run '^$' -bench Owner -benchtime 200x
func BenchmarkOwner(b *testing.B) {
	for _, n := range []int{5_000, 50_000, 500_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkOwner(b, Target{Dir: b.TempDir()}, n) })
	}
}

func benchmarkOwner(b *testing.B, target Target, n int) {
	s, err := Open(b.Context(), target)
	require.NoError(b, err)
	defer s.Close()
	book := books([2]*Store{s, s}, func(v *settings.Settings) { v.PublishQuota = 1 << 30 })[0]
	owner := accounts.Account{AppID: "wxa", Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release}, CreatedAt: at}
	prefix := func(i int) string { return fmt.Sprintf("https://h%d.example/%d", i%100, i) }
	one := func(i int) rules.Rule {
		p, err := rules.ParsePrefix(prefix(i), rules.Ordinary, true)
		require.NoError(b, err)
		return rules.Rule{Kind: rules.Ordinary, Owner: "wxa", Target: "wxa", Prefix: p, Path: "p", OpenVersion: rules.OpenRelease,
			CreatedAt: at, ChangedAt: at}
	}
	err = s.update(b.Context(), func(tx *Tx) error {
		if err := tx.accounts().PutAccount(b.Context(), owner); err != nil {
			return err
		}
		for i := 0; i < n; i += 500 {
			var some []rules.Rule
			for j := range 500 {
				some = append(some, one(i+j))
			}
			if err := tx.rules().AddRules(b.Context(), some, someone); err != nil {
				return err
			}
		}
		_, err := tx.exec(b.Context(), `INSERT INTO publishes (owner, key, at) SELECT owner, key, $1 FROM rules`, millis(at))
		return err
	})
	require.NoError(b, err)
	next := n
	b.Run("add", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, add(b.Context(), book, owner, "r", prefix(next), false))
			next++
		}
	})
	publish := 0
	b.Run("publish", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, book.Publish(b.Context(), owner, prefix(publish)))
			publish++
		}
	})
	for name, page := range map[string]int{"the first page": 1, "the last page": n / 200} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				list, err := book.List(b.Context(), owner, rules.ListRequest{Type: rules.ListPage, Page: page, PageSize: 200})
				if err != nil || len(list.Rules) != 200 {
					b.Fatal(len(list.Rules), err)
				}
			}
		})
	}
	b.Run("three of the newest", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, s.view(b.Context(), func(tx *Tx) error {
				_, _, err := tx.rules().List(context.Background(), rules.Query{Owner: "wxa", Newest: true, Limit: 3})
				return err
			}))
		}
	})
}
