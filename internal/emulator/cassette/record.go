package cassette

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Recorder is a proxy that forwards each call once, returns the upstream's response, and writes one cassette line.
type Recorder struct {
	Upstream *url.URL // scheme and host
	Out      io.Writer
	Log      *slog.Logger
	Now      func() time.Time
	// Timeout limits the time for a complete response.
	Timeout time.Duration
	// Transport sends the calls; nil = NewTransport.
	Transport http.RoundTripper

	mask    Mask
	writing sync.Mutex
	lines   int
	err     error // the first error of writing a line
}

// NewTransport returns a transport that never reuses a connection, because Go may repeat a call on a reused connection.
func NewTransport() *http.Transport {
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DisableCompression: true,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second}
}

// longestBody is the maximum length, in bytes, of a recorded request or response body.
const longestBody = 32 << 20

// Lines returns the number of recorded calls, and the first error of writing a line.
func (r *Recorder) Lines() (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.lines, r.err
}

// ServeHTTP forwards one call and records it.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	mask := &callMask{Mask: &r.mask}
	line := r.begin(in, mask)
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, longestBody))
	if _, isLong := errors.AsType[*http.MaxBytesError](err); isLong {
		r.refuse(w, line, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d bytes", longestBody))
		return
	}
	if err != nil {
		r.refuse(w, line, http.StatusBadRequest, "the caller broke off")
		return
	}
	line.Request = mask.body(body)
	mask.answering = true
	// The upstream call continues if the client disconnects, because the upstream has already received the request.
	ctx, end := context.WithTimeout(context.WithoutCancel(in.Context()), r.Timeout)
	defer end()
	transport := r.Transport
	if transport == nil {
		transport = NewTransport()
	}
	resp, err := transport.RoundTrip(r.onward(ctx, in, body))
	if err != nil {
		status, said := r.noAnswer(ctx, err)
		r.refuse(w, line, status, said)
		return
	}
	defer resp.Body.Close()
	line.Status, line.Headers = resp.StatusCode, r.headers(resp.Header)
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	var kept []byte
	err = passOn(w, resp, func(piece []byte) {
		kept = append(kept, piece[:min(len(piece), longestBody+1-len(kept))]...)
	}, func(length int64, err error) {
		switch {
		case err != nil && ctx.Err() != nil:
			line.Error = fmt.Sprintf("the upstream hung after %d bytes of its answer, for more than %s in all", length, r.Timeout)
		case err != nil && resp.ContentLength >= 0:
			line.Error = fmt.Sprintf("the upstream broke off after %d of the %d bytes that it had announced", length, resp.ContentLength)
		case err != nil:
			line.Error = fmt.Sprintf("the upstream broke off after %d bytes of its answer", length)
		case length > longestBody:
			line.Error = fmt.Sprintf("the response is longer than %d bytes and was passed on without a record", longestBody)
		default:
			line.Response = mask.body(plainBody(resp.Header, kept))
			if answer, err := parseValue(line.Response); err == nil {
				line.Escaped = answer.escapedTexts()
			}
		}
		r.write(line)
	})
	if err != nil {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // the client sees an aborted connection, as the recorder saw one
	}
}

// passOn streams the response body to the client, and passes each part of the body to the function keep. passOn calls the function
// ended once, before the client can see the end of the response, so that this call is recorded before later calls that depend on
// it. Recording continues if the client disconnects.
func passOn(w http.ResponseWriter, resp *http.Response, keep func([]byte), ended func(length int64, err error)) error {
	control, piece, length := http.NewResponseController(w), make([]byte, 32<<10), int64(0)
	for {
		n, err := resp.Body.Read(piece)
		keep(piece[:n])
		length += int64(n)
		if err == nil && length == resp.ContentLength {
			err = io.EOF // the announced Content-Length is reached
		}
		if err == io.EOF {
			ended(length, nil)
		} else if err != nil {
			ended(length, err)
		}
		w.Write(piece[:n])
		switch err {
		case nil:
			control.Flush()
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// begin returns a line with the fields that are known before the call is forwarded.
func (r *Recorder) begin(in *http.Request, mask *callMask) Line {
	method := in.Method
	if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"}, method) {
		method = r.mask.formText(method)
	}
	return Line{OccurredAt: r.Now().UTC().Truncate(time.Millisecond), Method: method, Path: r.mask.formText(in.URL.Path),
		Query: mask.query(in.URL.RawQuery), Type: r.mask.formText(in.Header.Get("Content-Type"))}
}

// perConnection lists the hop-by-hop headers, which are not forwarded.
var perConnection = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade"}

// onward returns the request to send to the upstream.
func (r *Recorder) onward(ctx context.Context, in *http.Request, body []byte) *http.Request {
	to := *in.URL
	to.Scheme, to.Host = r.Upstream.Scheme, r.Upstream.Host
	out := (&http.Request{Method: in.Method, URL: &to, Host: r.Upstream.Host, Header: in.Header.Clone(),
		Body: http.NoBody}).WithContext(ctx)
	for _, name := range perConnection {
		out.Header.Del(name)
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", "") // prevents Go's default User-Agent
	}
	if len(body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return out
}

// noAnswer returns the status and the reason (said) to record when the upstream sends no response. The reason does not quote err,
// because the text of err may contain data that the upstream sent.
func (r *Recorder) noAnswer(ctx context.Context, err error) (status int, said string) {
	if ctx.Err() != nil {
		return http.StatusGatewayTimeout, fmt.Sprintf("the upstream did not answer within %s", r.Timeout)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return http.StatusBadGateway, "the upstream cannot be reached"
	} else if ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return http.StatusBadGateway, "the upstream closed the connection without an answer"
	}
	return http.StatusBadGateway, "the upstream sent no HTTP answer, or its certificate is not good"
}

// refuse records the reason and responds with an error in place of the upstream.
func (r *Recorder) refuse(w http.ResponseWriter, line Line, status int, said string) {
	line.Error = said
	r.write(line)
	lines, _ := r.Lines()
	r.Log.Warn("request failed; error returned to the client", "error", said, "line", lines)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "qrjump cassette record: %s\n", said)
}

// headers returns the response headers that are recorded, masked.
func (r *Recorder) headers(from http.Header) map[string]string {
	kept := map[string]string{}
	for _, name := range headerNames {
		if from.Get(name) != "" {
			kept[name] = r.mask.formText(from.Get(name))
		}
	}
	return kept
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		if !slices.Contains(perConnection, name) {
			to[name] = values
		}
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if from[name] == nil {
			to[name] = nil // prevents Go's default header
		}
	}
}

// plainBody returns the response body without gzip compression.
func plainBody(header http.Header, answer []byte) []byte {
	if header.Get("Content-Encoding") != "gzip" {
		return answer
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(answer))
	if err != nil {
		return answer
	}
	plain, err := io.ReadAll(io.LimitReader(unpacked, longestBody))
	if err != nil {
		return answer
	}
	return plain
}

// write writes one complete line.
func (r *Recorder) write(line Line) {
	var b bytes.Buffer
	err := writeLine(&b, line)
	r.writing.Lock()
	defer r.writing.Unlock()
	if err == nil {
		_, err = r.Out.Write(b.Bytes())
	}
	r.lines++
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("writing line %d of the cassette: %w", r.lines, err)
		r.Log.Error("cassette incomplete", "error", r.err)
	}
}
