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

// nameServer knows one address for every name, and answers either A or AAAA questions with it. Its dial method goes into net.Resolver.
type nameServer struct {
	addr  netip.Addr
	mu    sync.Mutex
	asked map[string]bool
}

func (s *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		for {
			var size [2]byte
			if _, err := io.ReadFull(there, size[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(there, question); err != nil {
				return
			}
			// The answer is a DNS message: the id, "a recursive answer", one question.
			var labels []string
			end := 12
			for question[end] != 0 {
				n := int(question[end])
				labels = append(labels, string(question[end+1:end+1+n]))
				end += 1 + n
			}
			s.mu.Lock()
			s.asked[strings.Join(labels, ".")] = true
			s.mu.Unlock()

			end += 5 // the root label, type, class
			kind := binary.BigEndian.Uint16(question[end-4:])
			answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
			if s.addr.Is4() && kind == 1 || s.addr.Is6() && kind == 28 {
				answer[7] = 1 // one answer: the name above, its type, class, time to live
				answer = append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 60, 0, byte(s.addr.BitLen()/8))
				answer = append(answer, s.addr.AsSlice()...)
			}
			there.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		}
	}()
	return here, nil
}

// The standard resolver gives IPv4 addresses now as such and now in mapped form; they are judged and dialed as IPv4.
func TestSafeHTTP_MappedIPv4Lookup(t *testing.T) {
	for _, c := range []struct {
		addr string
		says string
	}{
		{addr: public},
		{addr: "::ffff:" + public},
		{addr: "127.0.0.1", says: "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8"},
		{addr: "::ffff:127.0.0.1", says: "127.0.0.1 refused: Loopback (RFC 1122), 127.0.0.0/8"},
		{addr: "169.254.169.254", says: "169.254.169.254 refused: Link Local"},
		{addr: "64:ff9b::7f00:1", says: "around 127.0.0.1"},
	} {
		t.Run(c.addr, func(t *testing.T) {
			server := &nameServer{addr: netip.MustParseAddr(c.addr), asked: map[string]bool{}}
			client, w := site(t, func(http.ResponseWriter, *http.Request) {})
			client.Resolver = &net.Resolver{PreferGo: true, Dial: server.dial}
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			server.mu.Lock()
			for name := range server.asked {
				// Some systems put domains of their own behind it first.
				assert.True(t, name == "h.example" || strings.HasPrefix(name, "h.example."), "asked for %s", name)
			}
			assert.True(t, len(server.asked) != 0, "nobody was asked")
			server.mu.Unlock()
			if c.says != "" {
				wantFailure(t, steps, err, safehttp.AddressRefused, c.says)
				return
			}
			require.NoError(t, err)
			assert.True(t, len(w.dialed) == 1 && w.dialed[0] == public+":80", "dialed %v", w.dialed)
		})
	}
}
