package fastpath

import (
	"bytes"
	"strconv"
)

// head holds the relevant parts of the head of a plain request.
type head struct {
	host   []byte
	key    []byte // the token after "Bearer "; nil = none
	length int    // of the body
	size   int    // size of the head with its empty line; 0 = incomplete
	last   bool   // Connection: close
}

// readHead parses the head of a plain request: the fast path's request line, lines that end in CRLF, one Host, one Content-Length
// within MaxBody, at most one Authorization, and no header that changes the meaning of a request (another transfer coding, an
// expectation, an upgrade, a browser's origin). For any other valid HTTP head, ok is false.
func (l *Listener) readHead(b []byte) (h head, ok bool) {
	first := l.requestLine
	if n := min(len(b), len(first)); string(b[:n]) != first[:n] {
		return h, false
	} else if n < len(first) {
		return h, true
	}
	h.length = -1
	for pos := len(first); ; {
		end := bytes.IndexByte(b[pos:], '\n')
		if end < 0 {
			return head{}, true
		}
		if end == 0 || b[pos+end-1] != '\r' {
			return head{}, false
		}
		line := b[pos : pos+end-1]
		pos += end + 1
		if len(line) == 0 {
			if h.host == nil || h.length < 0 {
				return head{}, false
			}
			h.size = pos
			return h, true
		}
		if !l.readLine(&h, line) {
			return head{}, false
		}
	}
}

// readLine parses one header line.
func (l *Listener) readLine(h *head, line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !all(line[:colon], &nameByte) {
		return false
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	var space [24]byte
	if colon > len(space) {
		return true // no relevant header name is this long
	}
	name := space[:colon]
	for i, c := range line[:colon] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		name[i] = c
	}
	switch string(name) {
	case "host":
		if h.host != nil || len(value) == 0 || !all(value, &hostByte) {
			return false
		}
		h.host = value
	case "content-length":
		if h.length >= 0 || len(value) > 5 || !all(value, &digit) {
			return false
		}
		n, err := strconv.Atoi(string(value))
		h.length = n
		return err == nil && n <= l.MaxBody
	case "authorization":
		key, bearer := bytes.CutPrefix(value, []byte("Bearer "))
		if h.key != nil || !bearer || len(key) == 0 {
			return false
		}
		h.key = key
	case "content-type":
		return !bytes.Contains(bytes.ToLower(value), []byte(l.Streams))
	case "connection":
		closing := bytes.EqualFold(value, []byte("close"))
		h.last = h.last || closing
		return closing || bytes.EqualFold(value, []byte("keep-alive"))
	case "transfer-encoding", "expect", "upgrade", "trailer", "te", "http2-settings", "origin", "sec-fetch-site":
		return false
	}
	return true
}

func all(b []byte, values *[256]bool) bool {
	for _, c := range b {
		if !values[c] {
			return false
		}
	}
	return true
}

// nameByte marks the bytes allowed in a header name, and hostByte those in a plain Host.
var (
	nameByte = bytesOf(letters + digits + "!#$%&'*+-.^_`|~")
	hostByte = bytesOf(letters + digits + ".-_:[]")
	digit    = bytesOf(digits)
)

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func bytesOf(text string) (values [256]bool) {
	for i := range len(text) {
		values[text[i]] = true
	}
	return values
}
