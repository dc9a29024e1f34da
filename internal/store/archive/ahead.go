package archive

import "io"

// The maximum amount of data that is read ahead, in bytes and in chunks.
const (
	aheadSize   = 64 << 10
	aheadPieces = 4
)

// newSpace returns the buffers for reading ahead.
func newSpace() chan []byte {
	space := make(chan []byte, aheadPieces)
	for range aheadPieces {
		space <- make([]byte, aheadSize)
	}
	return space
}

// readAhead reads r in the background while f processes the data that was already read. When readAhead returns, the reading of r has ended.
func readAhead(r io.Reader, space chan []byte, f func(io.Reader) error) error {
	a := &lookahead{space: space, pieces: make(chan aheadPiece, aheadPieces)}
	stop := make(chan struct{})
	go func() {
		defer close(a.pieces)
		for {
			var b []byte
			select {
			case b = <-space:
			case <-stop:
				return
			}
			n, err := 0, error(nil)
			for n < len(b) && err == nil {
				var part int
				part, err = r.Read(b[n:])
				n += part
			}
			a.pieces <- aheadPiece{b, n, err}
			if err != nil {
				return
			}
		}
	}()
	err := f(a)
	close(stop)
	a.giveBack()
	for a.now = range a.pieces {
		a.giveBack()
	}
	return err
}

// lookahead holds data that was read ahead.
type lookahead struct {
	space  chan []byte
	pieces chan aheadPiece
	now    aheadPiece
	at     int // index in now.b of the next byte to read
}

type aheadPiece struct {
	b   []byte
	n   int   // number of bytes read into b
	err error // error that the reader returned after the bytes in b
}

// Read implements io.Reader.
func (a *lookahead) Read(p []byte) (int, error) {
	for a.at == a.now.n {
		if a.now.err != nil {
			return 0, a.now.err
		}
		a.giveBack()
		piece, open := <-a.pieces
		if !open {
			return 0, io.ErrClosedPipe // readAhead has returned
		}
		a.now, a.at = piece, 0
	}
	n := copy(p, a.now.b[a.at:a.now.n])
	a.at += n
	return n, nil
}

// giveBack makes a buffer available for the next chunk.
func (a *lookahead) giveBack() {
	if a.now.b != nil {
		a.space <- a.now.b
		a.now.b = nil
	}
}
