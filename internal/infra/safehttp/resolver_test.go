package safehttp_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// nameServer is a DNS server with one address for every name, in answers to either A or AAAA questions. dial is a hook of net.Resolver.
type nameServer struct {
	addr    netip.Addr
	mu      sync.Mutex
	lookups map[string]bool
}

func (s *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			var size [2]byte
			if _, err := io.ReadFull(server, size[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(server, question); err != nil {
				return
			}
			// The answer is a DNS message: the id, the flags of a recursive answer, one question.
			var labels []string
			end := 12
			for question[end] != 0 {
				n := int(question[end])
				labels = append(labels, string(question[end+1:end+1+n]))
				end += 1 + n
			}
			s.mu.Lock()
			s.lookups[strings.Join(labels, ".")] = true
			s.mu.Unlock()

			end += 5 // the root label, type, class
			kind := binary.BigEndian.Uint16(question[end-4:])
			answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
			if s.addr.Is4() && kind == 1 || s.addr.Is6() && kind == 28 {
				answer[7] = 1 // one record: pointer to the name, type, class, TTL
				answer = append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 60, 0, byte(s.addr.BitLen()/8))
				answer = append(answer, s.addr.AsSlice()...)
			}
			server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		}
	}()
	return client, nil
}

// TestSafeHTTP_MappedIPv4Lookup verifies that IPv4 addresses, which net.Resolver returns plain or mapped to IPv6, are checked and dialed as
// IPv4.
func TestSafeHTTP_MappedIPv4Lookup(t *testing.T) {
	for _, c := range []struct {
		addr    string
		errText string
	}{
		{addr: public},
		{addr: "::ffff:" + public},
		{addr: "127.0.0.1", errText: "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8"},
		{addr: "::ffff:127.0.0.1", errText: "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8"},
		{addr: "169.254.169.254", errText: "169.254.169.254 refused: Link Local"},
		{addr: "64:ff9b::7f00:1", errText: "around 127.0.0.1"},
	} {
		t.Run(c.addr, func(t *testing.T) {
			server := &nameServer{addr: netip.MustParseAddr(c.addr), lookups: map[string]bool{}}
			client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
			client.Resolver = &net.Resolver{PreferGo: true, Dial: server.dial}
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			server.mu.Lock()
			for name := range server.lookups {
				// Some systems append their search domains first.
				assert.True(t, name == "h.example" || strings.HasPrefix(name, "h.example."), "looked up %s, want h.example", name)
			}
			assert.True(t, len(server.lookups) != 0, "no look-up, want h.example")
			server.mu.Unlock()
			if c.errText != "" {
				wantFailure(t, steps, err, safehttp.AddressRefused, c.errText)
				return
			}
			require.NoError(t, err)
			assert.True(t, len(w.dialed) == 1 && w.dialed[0] == public+":80", "dialed %v, want %s:80", w.dialed, public)
		})
	}
}
