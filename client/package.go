package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CodePackage is the encrypted package of a code download. Read returns the Base64 text as it arrives, so that the package is not
// held in memory. Close the package after reading.
type CodePackage struct {
	Size int64 // Approximate number of bytes that will arrive; -1 if unknown.

	in     *bufio.Reader // The reader's position is inside the Base64 text, before its closing quote.
	code   int           // The errcode and errmsg that precede the Base64 text.
	msg    string
	base   string
	err    error // The error that every further Read returns.
	ctx    context.Context
	closed func()
}

// maxMembers is the maximum size in bytes of the response fields other than the package.
const maxMembers = 64 << 10

// DownloadCodes starts the download of a range, which must be within one segment of the application. The download fails if no byte
// arrives during Options.Timeout; its total duration is not limited.
func (c WireService) DownloadCodes(ctx context.Context, id int64, r CodeRange) (*CodePackage, error) {
	body, err := encode(map[string]any{"application_id": id, "code_start": r.From, "code_end": r.To})
	if err != nil {
		return nil, err
	}
	var p *CodePackage
	err = c.authorized(ctx, func(token string) (err error) {
		p, err = c.openPackage(ctx, wirePost("/intp/marketcode/applycodedownload", url.Values{"access_token": {token}}, body))
		return err
	})
	return p, err
}

func (c *transport) openPackage(ctx context.Context, r request) (*CodePackage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	quiet := time.AfterFunc(c.options.Timeout, func() {
		cancel(fmt.Errorf("no data received for %v: %w", c.options.Timeout, context.DeadlineExceeded))
	})
	p := &CodePackage{base: c.base, ctx: ctx, closed: func() { quiet.Stop(); cancel(nil) }}
	resp, err := c.open(ctx, r)
	if err != nil {
		err = p.broken(err)
		p.closed()
		return nil, err
	}
	p.Size, p.closed = resp.ContentLength, func() { quiet.Stop(); cancel(nil); resp.Body.Close() }
	body := &attended{in: resp.Body, quiet: quiet, patience: c.options.Timeout}
	if resp.StatusCode != http.StatusOK {
		// A read error is ignored, because the partial body is all that can be shown.
		text, _ := io.ReadAll(io.LimitReader(body, maxMembers))
		p.closed()
		return nil, c.notTheWire(r, answer{resp.StatusCode, text})
	}
	if err := p.begin(body); err != nil {
		p.closed()
		return nil, err
	}
	return p, nil
}

// attended is a response body that cancels its call if one Read receives no bytes for the duration in the field patience. The time
// between two calls of Read does not count towards this duration.
type attended struct {
	in       io.Reader
	quiet    *time.Timer
	patience time.Duration
}

func (a *attended) Read(b []byte) (int, error) {
	a.quiet.Reset(a.patience)
	defer a.quiet.Stop()
	return a.in.Read(b)
}

// begin reads the response up to the first character of the Base64 text.
func (p *CodePackage) begin(body io.Reader) error {
	bounded := &io.LimitedReader{R: body, N: maxMembers}
	d := json.NewDecoder(bounded)
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return p.odd(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return p.odd(err)
		}
		var dst any = new(json.RawMessage)
		switch name {
		case "errcode":
			dst = &p.code
		case "errmsg":
			dst = &p.msg
		case "buffer":
			if p.code != 0 {
				return wireError(p.code, p.msg)
			}
			bounded.N = math.MaxInt64
			p.in = bufio.NewReaderSize(io.MultiReader(d.Buffered(), bounded), 64<<10)
			return p.enter()
		}
		if err := d.Decode(dst); err != nil {
			return p.odd(err)
		}
	}
	if p.code != 0 {
		return wireError(p.code, p.msg)
	}
	return p.odd(nil)
}

// enter skips the colon and the opening quote before the Base64 text.
func (p *CodePackage) enter() error {
	for _, want := range []byte(`:"`) {
		for {
			got, err := p.in.ReadByte()
			if err != nil {
				return p.odd(err)
			}
			if got == want {
				break
			}
			if !bytes.ContainsRune([]byte(" \t\r\n"), rune(got)) {
				return p.odd(nil)
			}
		}
	}
	return nil
}

// odd returns the error for a response that does not come from the wire API.
func (p *CodePackage) odd(err error) error {
	if _, bad := errors.AsType[*json.SyntaxError](err); err != nil && !bad {
		return p.broken(err)
	}
	return &WrongServer{URL: p.base, API: apiWire, Call: "POST /intp/marketcode/applycodedownload", Reason: "no package is in it"}
}

// broken returns the error for a response that does not arrive or is truncated.
func (p *CodePackage) broken(err error) error {
	if u, ok := errors.AsType[*Unreachable](err); ok {
		err = u.Err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if cause := context.Cause(p.ctx); cause != nil {
		err = cause
	}
	return &Unreachable{URL: p.base, Err: fmt.Errorf("incomplete package: %w", withoutAddress(err))}
}

// Read reads the Base64 text. Read returns io.EOF only after a complete response.
func (p *CodePackage) Read(b []byte) (int, error) {
	for p.err == nil && len(b) > 0 {
		if _, err := p.in.Peek(1); err != nil {
			p.err = p.broken(err)
			break
		}
		text, _ := p.in.Peek(min(p.in.Buffered(), len(b)))
		if i := bytes.IndexByte(text, '"'); i >= 0 {
			text = text[:i]
		}
		if i := bytes.IndexByte(text, '\\'); i >= 0 {
			text = text[:i]
		}
		if n := copy(b, text); n > 0 {
			_, _ = p.in.Discard(n) // Discard cannot fail: the n bytes are already in the buffer.
			return n, nil
		}
		char, ok, err := p.special()
		if err != nil {
			p.err = err
		} else if ok {
			b[0] = char
			return 1, nil
		}
	}
	if p.err != nil {
		return 0, p.err
	}
	return 0, nil
}

// special reads an escape sequence, or the closing quote and everything after the quote.
func (p *CodePackage) special() (char byte, ok bool, err error) {
	first, err := p.in.ReadByte()
	if err != nil {
		return 0, false, p.broken(err)
	}
	if first == '"' {
		return 0, false, p.end()
	}
	if char, err = p.in.ReadByte(); err != nil {
		return 0, false, p.broken(err)
	}
	switch char {
	case '/':
		return char, true, nil
	case 'n', 'r':
		return '\n', true, nil
	case 'u':
		var hex [4]byte
		if _, err := io.ReadFull(p.in, hex[:]); err != nil {
			return 0, false, p.broken(err)
		}
		if v, err := strconv.ParseUint(string(hex[:]), 16, 7); err == nil {
			return byte(v), true, nil
		}
	}
	return 0, false, p.odd(nil)
}

// end reads the rest of the response after the Base64 text; the result is io.EOF if the response is valid.
func (p *CodePackage) end() error {
	reply := struct {
		ErrCode int    `json:"errcode"`
		ErrMsg  string `json:"errmsg"`
	}{}
	rest := io.MultiReader(strings.NewReader(`{"buffer":""`), io.LimitReader(p.in, maxMembers))
	if err := json.NewDecoder(rest).Decode(&reply); err != nil {
		return p.odd(err)
	}
	if reply.ErrCode != 0 {
		return wireError(reply.ErrCode, reply.ErrMsg)
	}
	return io.EOF
}

// Close ends the download.
func (p *CodePackage) Close() error {
	p.closed()
	return nil
}

// ErrPackageKey is the error for a key that does not decrypt a package.
var ErrPackageKey = errors.New("the key does not decrypt this package")

var errTruncated = fmt.Errorf("the package is truncated: %w", io.ErrUnexpectedEOF)

// Rows decrypts a package while the package is read. Rows converts the Base64 text of pkg to rows, one code per line: dot matrix, code,
// index, code text. The key has 16 characters. A read from the result returns ErrPackageKey if the key belongs to another account.
func Rows(pkg io.Reader, key string) (io.Reader, error) {
	if len(key) != aes.BlockSize {
		return nil, fmt.Errorf("a package key has %d characters, not %d", aes.BlockSize, len(key))
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, err
	}
	return &rows{in: base64.NewDecoder(base64.StdEncoding, pkg), cbc: cipher.NewCBCDecrypter(block, []byte(key)),
		sealed: make([]byte, 32<<10), first: true}, nil
}

type rows struct {
	in     io.Reader
	cbc    cipher.BlockMode
	sealed []byte
	kept   int    // Number of bytes at the end of the field sealed; the next read decrypts these bytes.
	ready  []byte // Decrypted bytes that have not been read yet.
	first  bool
	err    error // the error to return after the bytes in ready
}

func (r *rows) Read(b []byte) (int, error) {
	for len(r.ready) == 0 && r.err == nil && len(b) > 0 {
		r.ready, r.err = r.nextPiece()
	}
	if len(r.ready) == 0 && len(b) > 0 {
		return 0, r.err
	}
	n := copy(b, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// nextPiece decrypts the next part of a package. Until the input ends, nextPiece keeps back the last block, which may contain the
// padding.
func (r *rows) nextPiece() ([]byte, error) {
	kept := copy(r.sealed, r.sealed[len(r.sealed)-r.kept:])
	n, err := io.ReadFull(r.in, r.sealed[kept:])
	last := err == io.EOF || err == io.ErrUnexpectedEOF
	if _, corrupt := errors.AsType[base64.CorruptInputError](err); corrupt {
		err = fmt.Errorf("the package is not Base64: %w", err)
	}
	if err != nil && !last {
		return nil, err
	}
	piece := r.sealed[:kept+n]
	if !last {
		r.kept = aes.BlockSize
		piece = piece[:len(piece)-aes.BlockSize]
	}
	if len(piece) == 0 || len(piece)%aes.BlockSize != 0 {
		return nil, errTruncated
	}
	r.cbc.CryptBlocks(piece, piece)
	if r.first && bytes.ContainsFunc(piece[:aes.BlockSize], func(char rune) bool {
		return (char < ' ' || char > '~') && char != '\n' && char != '\r' && char != '\t'
	}) {
		return nil, ErrPackageKey
	}
	r.first = false
	if !last {
		return piece, nil
	}
	padding := int(piece[len(piece)-1])
	if padding < 1 || padding > aes.BlockSize || bytes.Count(piece[len(piece)-padding:], []byte{byte(padding)}) != padding {
		return nil, errTruncated // the key decrypted the first block
	}
	return piece[:len(piece)-padding], io.EOF
}
