package fastpath

import (
	"bytes"
	"strconv"
)

// head contains the relevant parts of the head of a plain request.
type head struct {
	host   []byte
	key    []byte // the token after "Bearer "; nil = none
	length int    // length of the body in bytes
	size   int    // size of the head with its empty line; 0 = incomplete
	last   bool   // the request has the header Connection: close
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
	if colon <= 0 || !allIn(line[:colon], &nameBytes) {
		return false
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	var buf [24]byte
	if colon > len(buf) {
		return true // no relevant header name is this long
	}
	name := buf[:colon]
	for i, c := range line[:colon] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		name[i] = c
	}
	switch string(name) {
	case "host":
		if h.host != nil || len(value) == 0 || !allIn(value, &hostBytes) {
			return false
		}
		h.host = value
	case "content-length":
		if h.length >= 0 || len(value) > 5 || !allIn(value, &digitBytes) {
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
		isClose := bytes.EqualFold(value, []byte("close"))
		h.last = h.last || isClose
		return isClose || bytes.EqualFold(value, []byte("keep-alive"))
	case "transfer-encoding", "expect", "upgrade", "trailer", "te", "http2-settings", "origin", "sec-fetch-site":
		return false
	}
	return true
}

func allIn(b []byte, set *[256]bool) bool {
	for _, c := range b {
		if !set[c] {
			return false
		}
	}
	return true
}

// nameBytes marks the bytes allowed in a header name, and hostBytes those in a plain Host.
var (
	nameBytes  = byteSet(letters + digits + "!#$%&'*+-.^_`|~")
	hostBytes  = byteSet(letters + digits + ".-_:[]")
	digitBytes = byteSet(digits)
)

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func byteSet(text string) (set [256]bool) {
	for i := range len(text) {
		set[text[i]] = true
	}
	return set
}
