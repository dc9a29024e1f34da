package archive

import "io"

// aheadSize is the number of bytes that are read ahead.
const aheadSize = 64 << 10

// readAhead copies r in the background while f processes the data that was already copied. space is the buffer of the copy. When readAhead
// returns, the reading of r has ended.
func readAhead(r io.Reader, space []byte, f func(io.Reader) error) error {
	rows, copied := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := io.CopyBuffer(copied, r, space)
		copied.CloseWithError(err)
	}()
	err := f(rows)
	rows.Close()
	<-done
	return err
}
