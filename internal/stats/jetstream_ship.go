package stats

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Ship implements Harbour. The mark is noted in this node's folder: what is
// published again because a crash came between counts once.
func (l *JetStream) Ship(ctx context.Context, _ string, _, to Mark, events []Event) error {
	if l.options.Erased != nil {
		erased, err := l.options.Erased(ctx, 0)
		if err != nil {
			return err
		}
		upTo := map[UserHash]int64{}
		for _, e := range erased {
			upTo[e.User] = e.UpTo
		}
		for i := range events {
			if events[i].User != (UserHash{}) && events[i].At.UnixMilli() <= upTo[events[i].User] {
				events[i] = *anonymised(&events[i])
			}
		}
	}
	if err := l.Append(ctx, events); err != nil {
		return err
	}
	return l.note(to)
}

func (l *JetStream) note(m Mark) error {
	if err := writeWhole(realDisk{}, l.markFile(), fmt.Appendf(nil, "%d %s\n", m.Position, m.ID)); err != nil {
		return fmt.Errorf("noting how far scans were shipped: %w", err)
	}
	return nil
}

// Begin says where the events begin that are for the stream, when this node
// ships to it for the first time: what was counted elsewhere would count twice.
func (l *JetStream) Begin(from func() (Mark, error)) error {
	f, err := (realDisk{}).open(l.markFile())
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m, err := from()
	if err != nil {
		return err
	}
	return l.note(m)
}

func (l *JetStream) markFile() string { return filepath.Join(l.options.Marks, "shipped") }

// Shipped implements Harbour.
func (l *JetStream) Shipped(context.Context, string) (m Mark, err error) {
	return readMark(l.markFile())
}

// LeaveStream ends what a node with its marks in a folder had with a stream:
// left is told up to where the journal was shipped, if it was. A stream that
// the node comes to later gets what is new then.
func LeaveStream(marks string, left func(Mark) error) error {
	file := (&JetStream{options: JetStreamOptions{Marks: marks}}).markFile()
	m, err := readMark(file)
	if err == nil && m != (Mark{}) {
		err = left(m)
	}
	if err != nil {
		return err
	}
	switch err := (realDisk{}).remove(file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	// A mark that came back would bring to a stream what is counted from the journal.
	return (realDisk{}).syncDir(marks)
}

func readMark(file string) (m Mark, err error) {
	f, err := (realDisk{}).open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	text := make([]byte, 64)
	n, _ := f.ReadAt(text, 0)
	var id string
	if _, err := fmt.Sscanf(string(text[:n]), "%d %s", &m.Position, &id); err != nil {
		return Mark{}, nil // all is published again, and counts once
	}
	if m.ID, err = ParseScanID(id); err != nil {
		return Mark{}, nil
	}
	return m, nil
}

// Erased implements Harbour.
func (l *JetStream) Erased(ctx context.Context, after int64) ([]Erasure, error) {
	if l.options.Erased == nil {
		return nil, nil
	}
	return l.options.Erased(ctx, after)
}
