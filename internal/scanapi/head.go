package scanapi

import (
	"bytes"
)

const (
	resolvePath = "/scan/v1/resolve"
	requestLine = "POST " + resolvePath + " HTTP/1.1\r\n"
)

// head is what counts of a plain request's head.
type head struct {
	host   []byte
	key    []byte // behind "Bearer "; nil = none
	length int    // of the body
	size   int    // of the head, with its empty line; 0 = not whole yet
	last   bool   // Connection: close
}

type verdict int

const (
	unfinished verdict = iota
	isPlain
	notPlain
)

// readHead reads the head of a plain request: this request line, lines that
// end in CRLF, one Host, one Content-Length within MaxRequest, at most one
// Authorization, and nothing that changes what a request means (another
// transfer coding, an expectation, an upgrade, a browser's origin). Whatever
// else HTTP allows is not plain.
func readHead(b []byte) (h head, v verdict) {
	if len(b) < len(requestLine) {
		if requestLine[:len(b)] == string(b) {
			return h, unfinished
		}
		return h, notPlain
	}
	if string(b[:len(requestLine)]) != requestLine {
		return h, notPlain
	}
	h.length = -1
	for at := len(requestLine); ; {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return head{}, unfinished
		}
		if end == 0 || b[at+end-1] != '\r' {
			return head{}, notPlain
		}
		line := b[at : at+end-1]
		at += end + 1
		if len(line) == 0 {
			if h.host == nil || h.length < 0 {
				return head{}, notPlain
			}
			h.size = at
			return h, isPlain
		}
		if !h.take(line) {
			return head{}, notPlain
		}
	}
}

// take reads one line of the head.
func (h *head) take(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	for _, c := range line[:colon] {
		if !nameByte[c] {
			return false
		}
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	var space [24]byte
	if colon > len(space) {
		return true // no name that counts is so long
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
		if h.host != nil || len(value) == 0 {
			return false
		}
		for _, c := range value {
			if !hostByte[c] {
				return false
			}
		}
		h.host = value
	case "content-length":
		if h.length >= 0 || len(value) == 0 || len(value) > 5 {
			return false
		}
		n := 0
		for _, c := range value {
			if c < '0' || c > '9' {
				return false
			}
			n = 10*n + int(c-'0')
		}
		if n > MaxRequest {
			return false
		}
		h.length = n
	case "authorization":
		key, bearer := bytes.CutPrefix(value, []byte("Bearer "))
		if h.key != nil || !bearer || len(key) == 0 {
			return false
		}
		h.key = key
	case "content-type":
		return !bytes.Contains(bytes.ToLower(value), []byte("ndjson"))
	case "connection":
		switch {
		case bytes.EqualFold(value, []byte("close")):
			h.last = true
		case !bytes.EqualFold(value, []byte("keep-alive")):
			return false
		}
	case "transfer-encoding", "expect", "upgrade", "trailer", "te", "http2-settings", "origin", "sec-fetch-site":
		return false
	}
	return true
}

// nameByte are the bytes of a header's name, hostByte those of a plain Host.
var nameByte, hostByte = func() (name, host [256]bool) {
	for c := '0'; c <= 'z'; c++ {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			name[c], host[c] = true, true
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		name[c] = true
	}
	for _, c := range ".-_:[]" {
		host[c] = true
	}
	return name, host
}()
