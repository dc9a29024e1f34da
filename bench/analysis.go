package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
)

const (
	activities   = 50
	analysisDays = 60
)

// analysis measures a statistics query against the same query over all raw rows, both in PostgreSQL.
func (b *bench) analysis(ctx context.Context) error {
	url, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	total := b.scaled(3_000_000, 60_000)
	batch, activations, err := b.createActivations(ctx, url)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Target{URL: url, Dir: b.work})
	if err != nil {
		return err
	}
	defer s.Close()
	log, err := s.OpenScans(ctx, store.ScansOptions{Random: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	chosen, silent := settings.NewLive(settings.Defaults()), slog.New(slog.DiscardHandler)
	counter := &stats.Aggregator{Log: log, Store: s, Settings: chosen, Now: time.Now, Logger: silent, Random: rand.Reader,
		Alarms: &alarms.Service{Store: s, Settings: chosen, Now: time.Now, Logger: silent}}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)

	// Whole days in the server's time zone, so that both queries use the same day boundaries.
	offset := time.Duration(settings.Defaults().UTCOffsetHours) * time.Hour
	last := time.Now().Add(offset).Truncate(24 * time.Hour).Add(-offset)
	first := last.Add(-analysisDays * 24 * time.Hour)
	maker := scanMaker{random: mrand.New(mrand.NewPCG(1, 2)), first: first, batch: batch, activations: activations}

	var aggregated [2][]float64 // index 0: a third of the scans, 1: all scans
	var raw []float64
	done := 0
	for part, upTo := range []int{total / 3, total} {
		began, from := time.Now(), done
		for done < upTo {
			n := min(20_000, upTo-done)
			// Each part covers all days, in chronological order.
			if err := log.Append(ctx, maker.events(n, float64(done-from)/float64(upTo-from), float64(n)/float64(upTo-from))); err != nil {
				return fmt.Errorf("writing scans: %w", err)
			}
			done += n
		}
		written := time.Since(began)
		began = time.Now()
		if err := counter.CatchUp(ctx); err != nil {
			return fmt.Errorf("counting: %w", err)
		}
		fmt.Printf("   %d scans written in %.0f s, counted in %.0f s\n", upTo-from, written.Seconds(), time.Since(began).Seconds())
		if _, err := conn.Exec(ctx, "VACUUM ANALYZE"); err != nil {
			return err
		}
		for round := range b.rounds + 1 {
			index := (round * 7) % activities
			began := time.Now()
			answer, err := counter.Execute(ctx, stats.Question{From: first, To: last, Interval: stats.ByDay,
				Filter: map[stats.Dimension]string{stats.Activity: activityName(index)}, Metric: stats.Scans, Limit: stats.MaxAnswers})
			took := time.Since(began).Seconds()
			if err != nil {
				return err
			}
			counted := map[int64]int64{}
			for _, row := range answer.Rows {
				counted[row.Bucket] += row.Scans
			}
			began = time.Now()
			rows, err := conn.Query(ctx, `SELECT (occurred_at + $1) / 86400000 AS day, count(*) FROM scan_events
				WHERE activation = $2 AND occurred_at >= $3 AND occurred_at < $4 GROUP BY 1 ORDER BY 1`,
				offset.Milliseconds(), activations[index], first.UnixMilli(), last.UnixMilli())
			if err != nil {
				return err
			}
			plain := map[int64]int64{}
			var day, n int64
			if _, err := pgx.ForEachRow(rows, []any{&day, &n}, func() error { plain[day] = n; return nil }); err != nil {
				return err
			}
			tookRaw := time.Since(began).Seconds()
			if len(plain) != len(counted) || len(plain) == 0 {
				return fmt.Errorf("%d days counted, %d in the raw rows", len(counted), len(plain))
			}
			for day, n := range plain {
				if counted[day] != n {
					return fmt.Errorf("day %d of %s: counted %d, in the raw rows %d", day, activityName(index), counted[day], n)
				}
			}
			if round == 0 {
				continue
			}
			aggregated[part] = append(aggregated[part], took)
			if part == 1 {
				raw = append(raw, tookRaw)
			}
		}
	}
	b.check("With %s scans of %d activities over %d days, every daily total of the queried activities equals the number of raw rows.",
		sizeName(total), activities, analysisDays)
	b.row(Row{What: fmt.Sprintf("analysis of %s scans: daily totals of one activity", sizeName(total)),
		Anchor: "the same question asked of the raw rows, in the same PostgreSQL; times faster", Target: 30, AtLeast: true,
		Values: ratios(raw, aggregated[1]), Main: true})
	b.row(Row{What: fmt.Sprintf("the same question at %s scans", sizeName(total)), Anchor: fmt.Sprintf("at %s scans", sizeName(total/3)),
		Values: ratios(aggregated[1], aggregated[0])})
	return nil
}

func activityName(i int) string { return fmt.Sprintf("activity %02d", i) }

// createActivations starts a server on the database, creates a batch and activates one range of codes for each activity.
func (b *bench) createActivations(ctx context.Context, url string) (batch int64, activations []int64, err error) {
	q, err := b.serveCodes(ctx, serve{data: filepath.Join(b.work, "analysis"), core: -1, args: []string{"--database", url}})
	if err != nil {
		return 0, nil, err
	}
	defer q.stop()
	token, err := q.token(ctx)
	if err != nil {
		return 0, nil, err
	}
	if batch, _, err = q.batch(ctx, token, "analysis", activities*10_000); err != nil {
		return 0, nil, err
	}
	for i := range activities {
		if err := q.wire(ctx, "codeactive", token,
			map[string]any{"application_id": batch, "code_start": i * 10_000, "code_end": i*10_000 + 9_999,
				"activity_name": activityName(i),
				"product_brand": fmt.Sprintf("Brand %d", i%10), "product_title": "Beans",
				"product_code": fmt.Sprintf("40063813339%02d", i%20),
				"wxa_appid":    "wxminiprogram0001", "wxa_path": "pages/item/item"}, nil); err != nil {
			return 0, nil, err
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT seq FROM code_events WHERE batch = $1 ORDER BY first_idx`, batch)
	if err != nil {
		return 0, nil, err
	}
	activations, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(activations) != activities {
		err = fmt.Errorf("%d activations", len(activations))
	}
	return batch, activations, err
}

// scanMaker generates scans over all days and hours by many users: two thirds match rules, one third are scans of codes,
// some of which are scanned repeatedly.
type scanMaker struct {
	random      *mrand.Rand
	first       time.Time
	batch       int64
	activations []int64
}

func (m scanMaker) events(n int, from, share float64) []scanlog.Event {
	events := make([]scanlog.Event, n)
	for i := range events {
		e := &events[i]
		index := m.random.IntN(activities)
		elapsed := (from + share*float64(i)/float64(n)) * float64(analysisDays*24*time.Hour)
		e.OccurredAt = m.first.Add(time.Duration(elapsed)).Truncate(time.Millisecond).UTC()
		for j, ms := 0, e.OccurredAt.UnixMilli(); j < 6; j++ {
			e.ID[j] = byte(ms >> (40 - 8*j))
		}
		for j := 6; j < len(e.ID); j++ {
			e.ID[j] = byte(m.random.Uint32())
		}
		user := m.random.IntN(100_000)
		e.User = scanlog.UserHash{1, byte(user), byte(user >> 8), byte(user >> 16)}
		e.Source, e.Client, e.Action, e.Kind, e.App, e.Version = "scan", "bench/1", "open_mini_program", "code", "wxminiprogram0001",
			"release"
		if m.random.IntN(3) > 0 { // a scan that matches a rule
			e.Kind, e.RuleID, e.Text = "rule", m.random.Int64N(500)+1, "https://coffee.example/t/7?from=door"
			continue
		}
		e.Batch, e.Index, e.Activation = m.batch, int64(index*10_000+m.random.IntN(10_000)), m.activations[index]
	}
	return events
}
