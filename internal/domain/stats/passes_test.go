package stats_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// BenchmarkPasses is what passes over a ledger of so many scans cost: 400 days, 30 %
// of codes, 5,000,000 users, 50,000 links by Zipf. PASSES_DIR keeps the folder between
// runs, so that two versions are measured with the same scans.
//
//	PASSES_DIR=/var/tmp/passes PASSES_SCANS=500000 go test ./internal/domain/stats -run - -bench Passes -benchtime 1x -timeout 3h
func BenchmarkPasses(b *testing.B) {
	scans := 50_000
	if text := os.Getenv("PASSES_SCANS"); text != "" {
		var err error
		if scans, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	dir := os.Getenv("PASSES_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	dir = filepath.Join(dir, fmt.Sprint(scans))
	require.NoError(b, os.MkdirAll(dir, 0o700))
	s, err := store.Open(b.Context(), store.Target{Dir: dir})
	require.NoError(b, err)
	defer s.Close()
	j, err := scanlog.OpenJournal(filepath.Join(dir, "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
	require.NoError(b, err)
	defer j.Close()
	c := scantest.NewCounter(s, j)
	r := rand.New(rand.NewPCG(14, uint64(scans)))
	zipf := rand.NewZipf(r, 1.1, 1, 49_999)
	have, err := j.End(b.Context())
	require.NoError(b, err)
	if have == 0 {
		require.NoError(b, s.UpdateCodes(b.Context(), func(tx codes.Tx) error {
			for n := range int64(5000) {
				if _, err := tx.AddEvent(b.Context(), codes.Event{Batch: 500_000_001 + n%500, Did: codes.Activate,
					Codes: codes.NewSet(codes.Range{From: n, To: n + 1}), At: began, From: began,
					Binding: codes.Binding{ActivityName: fmt.Sprint("activity ", n%2000), ProductBrand: "brand",
						ProductCode: "6900000000000"}}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for n := int(have); n < scans; {
		events := make([]scanlog.Event, min(20_000, scans-n))
		for i := range events {
			at := began.Add(400 * 24 * time.Hour / time.Duration(scans) * time.Duration(n+i)).Truncate(time.Millisecond)
			e := scanlog.Event{ID: scantest.ID(at, r), At: at, Source: "scan", Client: "bench/1", Action: "open_mini_program",
				App:     "wxminiprogram0001",
				Version: "release", Region: "CN-31",
				Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(200)), byte(r.IntN(250)), 0}), 24)}
			binary.BigEndian.PutUint64(e.User[:], 1+r.Uint64N(5_000_000))
			if e.Kind, e.RuleID, e.Text = "rule", int64(1+zipf.Uint64()), "https://coffee.example/t/7?from=door"; r.IntN(10) < 3 {
				e.Kind, e.RuleID, e.Text, e.Batch, e.Index, e.Activation = "code", 0, "", 0, r.Int64N(100_000), 1+r.Int64N(5000)
				e.Batch = 500_000_001 + (e.Activation-1)%500
			}
			events[i] = e
		}
		require.NoError(b, j.Append(b.Context(), events))
		n += len(events)
	}
	require.NoError(b, c.CatchUpAndSave(b.Context()))
	if os.Getenv("PASSES_DIR") != "" && have < int64(scans) {
		b.Skip("the folder is made")
	}
	metric := func(name string, f func()) {
		start := time.Now()
		f()
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, name+"-ms")
	}
	for b.Loop() {
		metric("recount", func() {
			if r, err := (verify.Recounter{Counter: c}).Run(b.Context()); err != nil || r.Differences != 0 {
				b.Fatalf("%+v, %v", r, err)
			}
		})
		for _, name := range []string{"erase-first", "erase-next"} {
			var user scanlog.UserHash
			binary.BigEndian.PutUint64(user[:], 1+rand.Uint64N(5_000_000))
			metric(name, func() {
				if _, err := c.Erase(b.Context(), user); err != nil {
					b.Fatal(err)
				}
			})
		}
		metric("two-hours", func() {
			n, from := 0, began.AddDate(0, 0, 200)
			for _, err := range c.Between(b.Context(), stats.Filter{From: from, To: from.Add(2 * time.Hour)}) {
				require.NoError(b, err)
				n++
			}
			b.ReportMetric(float64(n), "exported")
		})
	}
	b.ReportMetric(0, "ns/op")
}
