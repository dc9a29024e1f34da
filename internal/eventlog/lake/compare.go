package lake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Compared holds the differences between the scan log and the lake for one day.
type Compared struct {
	Day          string
	Ledger, Lake int64 // number of scans in the scan log and in the lake
	Missing      int64 // scans that only the scan log contains
	OnTheWay     int64 // scans counted in Missing that are too recent to be required in the lake
	Twice        int64 // surplus rows: if a scan has several rows, all but one of them
	Unknown      int64 // scans that only the lake contains
	Named        int64 // scans whose user is erased in the scan log but not in the lake
}

// onTheWay is the time that a scan may take to reach the lake before the scan counts as missing.
const onTheWay = time.Minute

// Zone returns the time zone in which the days of the lake begin.
func (l *Lake) Zone(ctx context.Context) (*time.Location, error) {
	var all Metadata
	if err := get(ctx, l.Place, lakewideName, &all); err != nil {
		return nil, err
	}
	return time.FixedZone("", all.UTCOffsetHours*3600), nil
}

// digest is an order-independent checksum of a set of scans.
type digest struct {
	n      int64
	hi, lo uint64
}

func (d *digest) add(id scanlog.ScanID, anonymous bool) {
	data := append(id[:], 0)
	if anonymous {
		data[len(id)] = 1
	}
	sum := sha256.Sum256(data)
	d.n, d.hi, d.lo = d.n+1, d.hi+binary.BigEndian.Uint64(sum[:]), d.lo+binary.BigEndian.Uint64(sum[8:])
}

// known holds the columns of a lake row that Compare compares with the scan log.
type known struct {
	ScanID   string `parquet:"scan_id"`
	UserHash string `parquet:"user_hash,optional"`
}

// Compare compares a day of the lake with the scans of that day in the scan log. Compare loads the ids of a day into memory only if
// the checksums differ.
func (l *Lake) Compare(ctx context.Context, day string, scans func() iter.Seq2[*scanlog.Event, error]) (Compared, error) {
	c := Compared{Day: day}
	var inLedger, inLake digest
	err := l.readDay(ctx, day, func(id scanlog.ScanID, anonymous bool) { inLake.add(id, anonymous) })
	if err != nil {
		return c, err
	}
	for e, err := range scans() { // the scan log is read after the lake, so the scan log contains every scan of the lake
		if err != nil {
			return c, err
		}
		inLedger.add(e.ID, e.User == scanlog.UserHash{})
	}
	c.Ledger, c.Lake = inLedger.n, inLake.n
	if inLedger == inLake {
		return c, nil
	}
	return l.differ(ctx, c, scans)
}

// differ counts the scans of a day that differ between the scan log and the lake.
func (l *Lake) differ(ctx context.Context, c Compared, scans func() iter.Seq2[*scanlog.Event, error]) (Compared, error) {
	type found struct{ times, named int32 }
	rows := map[scanlog.ScanID]found{}
	c = Compared{Day: c.Day}
	err := l.readDay(ctx, c.Day, func(id scanlog.ScanID, anonymous bool) {
		f := rows[id]
		f.times++
		if !anonymous {
			f.named++
		}
		rows[id] = f
		c.Lake++
	})
	if err != nil {
		return c, err
	}
	recent := l.Now().Add(-onTheWay)
	for e, err := range scans() {
		if err != nil {
			return c, err
		}
		c.Ledger++
		f, exists := rows[e.ID]
		switch {
		case exists:
			if e.User == (scanlog.UserHash{}) {
				c.Named += int64(f.named)
			}
			rows[e.ID] = found{times: -f.times}
		case e.ID.Time().After(recent):
			c.OnTheWay++
		default:
			c.Missing++
		}
	}
	for _, f := range rows {
		if f.times > 0 {
			c.Unknown++
		}
		c.Twice += int64(max(f.times, -f.times) - 1)
	}
	return c, nil
}

func (l *Lake) readDay(ctx context.Context, day string, visit func(id scanlog.ScanID, anonymous bool)) error {
	names, err := l.Place.List(ctx, dayFolder(day))
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := l.Place.Get(ctx, name)
		if err != nil {
			return err
		}
		for row, err := range rowsOf[known](name+" in the lake", content) {
			if err != nil {
				return err
			}
			id, err := scanlog.ParseScanID(row.ScanID)
			if err != nil {
				return fmt.Errorf("%s in the lake has an invalid scan ID %q: %w", name, row.ScanID, err)
			}
			visit(id, row.UserHash == "")
		}
	}
	return nil
}

// Manifests returns the manifests of all nodes.
func (l *Lake) Manifests(ctx context.Context) (all []Manifest, err error) {
	names, err := l.Place.List(ctx, manifestFolder)
	for _, name := range names {
		var m Manifest
		if err = get(ctx, l.Place, name, &m); err != nil {
			break
		}
		all = append(all, m)
	}
	return all, err
}
