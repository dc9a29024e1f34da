package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// PageReads returns the number of database pages that the read connections of an embedded database have read from cache or disk: a measure
// of the cost of reads that is independent of the machine. PageReads waits for running reads. PageReads returns an error on PostgreSQL.
func (s *Store) PageReads(ctx context.Context) (pages int64, err error) {
	if s.engine.name != "sqlite" {
		return 0, fmt.Errorf("%s does not report page reads", s.engine.name)
	}
	held := make([]*sql.Conn, 0, s.read.Stats().MaxOpenConnections)
	defer func() {
		for _, conn := range held {
			err = errors.Join(err, conn.Close())
		}
	}()
	for range cap(held) {
		conn, err := s.read.Conn(ctx)
		if err != nil {
			return 0, err
		}
		held = append(held, conn)
		err = conn.Raw(func(driver any) error {
			for _, op := range []sqlite.DBStatusOp{sqlite.DBStatusCacheHit, sqlite.DBStatusCacheMiss} {
				n, _, err := driver.(sqlite.DBStatus).Status(op, false)
				if err != nil {
					return err
				}
				pages += int64(n)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return pages, nil
}
