package lake

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// learn loads the list of erased users, and the list of nodes whose files erase skips. Rows that are written after a call of learn contain
// no erased user, even if the journal still contains the user.
func (l *Lake) learn(ctx context.Context) error {
	list, err := l.Erased(ctx, l.learned-eraseOverlap.Milliseconds())
	if err != nil {
		return fmt.Errorf("reading erased users: %w", err)
	}
	for _, e := range list {
		if upTo, known := l.erased[e.User]; known && upTo >= e.ErasedAt {
			continue
		}
		l.erased[e.User] = e.ErasedAt
		// While this node was down, nodes may have left without erasing these users in their files.
		if l.Others != nil || e.ErasedAt > l.stored.ErasedUntil-eraseOverlap.Milliseconds() {
			l.pending[e.User] = true
		}
		l.learned = max(l.learned, e.ErasedAt)
	}
	if l.Others == nil {
		return nil
	}
	writers, err := l.Others(ctx)
	if err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	for node := range l.writers {
		if !writers[node] { // erase skipped the files of this node
			for user := range l.erased {
				l.pending[user] = true
			}
		}
	}
	l.writers = writers
	return nil
}

// eraseIn makes a row anonymous if its user was erased.
func (l *Lake) eraseIn(r *Row) bool {
	if r.UserHash == "" {
		return false
	}
	var user scanlog.UserHash
	if n, err := hex.Decode(user[:], []byte(r.UserHash)); err != nil || n != len(user) {
		return false
	}
	upTo, erased := l.erased[user]
	if !erased || r.ScannedAt.UnixMilli() > upTo {
		return false
	}
	r.UserHash, r.Client, r.Network = "", "", ""
	return true
}

// erase makes erased users anonymous in the Parquet files of this node, and in the files of nodes that no longer run. Several nodes
// may rewrite the same file at once: each node knows all erased users, so the results are identical.
func (l *Lake) erase(ctx context.Context) error {
	names, err := l.Place.List(ctx, scansFolder)
	if err != nil {
		return err
	}
	hashes := make([]parquet.Value, 0, len(l.pending))
	for user := range l.pending {
		hashes = append(hashes, parquet.ValueOf(hex.EncodeToString(user[:])))
	}
	for _, name := range names {
		day, node, ok := readPartName(name)
		if isOwn := baseOf(node) == baseOf(l.stored.Node); !ok || !isOwn && l.writers[baseOf(node)] {
			continue
		}
		allowed, err := mayHold(ctx, l.Place, name, hashes)
		if err != nil {
			return err
		}
		if !allowed {
			continue
		}
		p, err := loadPart(ctx, l.Place, name)
		if err != nil {
			return err
		}
		next, changed, err := p.merged(nil, l.eraseIn)
		if err != nil {
			return err
		}
		if changed {
			if err := l.Place.Put(ctx, name, next.content); err != nil {
				return err
			}
			if grows := l.open[day]; grows != nil && grows.name == name {
				l.open[day] = next
			}
		}
	}
	clear(l.pending)
	return nil
}
