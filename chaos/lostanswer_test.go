package chaos_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCommit_LostResponse: PostgreSQL commits a change, and the connection breaks
// before the answer. The caller learns that something went wrong; what is
// stored and what a scan opens must still be the same.
func TestCommit_LostResponse(t *testing.T) {
	proxy := proxyTo(t, ownDatabase(t))
	srv := inProcess(t, proxy.URL, visibleSeed)
	wire := must{connect(t, srv.URL, ""), t}
	token := wire.token("left")
	const prefix = "https://left.example/t/"
	stored := func() string {
		rules := wire.ok("qrcodejumpget", token, map[string]any{}).RuleList
		if len(rules) == 0 {
			return "nothing"
		}
		return fmt.Sprintf("state %d", rules[0].State)
	}
	lose := func(call string, body any) {
		t.Helper()
		proxy.lose.Store(true)
		if got := wire.code(call, token, body); got.ErrCode != -1 {
			t.Fatalf("%s without an answer to its commit: %d %s", call, got.ErrCode, got.ErrMsg)
		}
		require.True(t, !proxy.lose.Load(), "%s made no commit", call)
	}

	wire.ok("qrcodejumpadd", token, add(prefix, "pages/a"))
	lose("qrcodejumppublish", prefixOnly(prefix))
	if got, d := stored(), wire.scan(prefix+"1"); got != "state 2" || !d.opens() {
		t.Errorf("published, answer lost: stored %s, a scan %v", got, d)
	}
	wire.ok("qrcodejumpdelete", token, prefixOnly(prefix))
	wire.ok("qrcodejumpadd", token, add(prefix, "pages/b"))
	wire.ok("qrcodejumppublish", token, prefixOnly(prefix))
	lose("qrcodejumpdelete", prefixOnly(prefix))
	if got, d := stored(), wire.scan(prefix+"1"); got != "nothing" || d.opens() {
		t.Errorf("deleted, answer lost: stored %s, a scan %v", got, d)
	}
}

// TestCommit_CallerDisconnects: a caller who goes away while PostgreSQL commits
// does not cut the commit off. Cut off, it could happen after everybody has
// looked whether it did.
func TestCommit_CallerDisconnects(t *testing.T) {
	proxy := proxyTo(t, ownDatabase(t))
	s, err := store.Open(t.Context(), store.Target{URL: proxy.URL})
	require.NoError(t, err)
	defer s.Close()
	ctx, goAway := context.WithCancel(t.Context())
	proxy.held = make(chan chan struct{})
	proxy.hold.Store(true)
	done := make(chan error, 1)
	go func() {
		done <- s.UpdateRules(ctx, func(tx rules.Tx) error {
			return tx.PutDomain(ctx, rules.Domain{Host: "left.example", Status: rules.Denied})
		})
	}()
	release := <-proxy.held
	goAway()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the commit of a caller who went away: %v", err)
	}
	if err := s.UpdateRules(ctx, func(rules.Tx) error { t.Error("a transaction began"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a transaction of a caller who is gone: %v", err)
	}
}

// pgProxy stands between a server and PostgreSQL.
type pgProxy struct {
	URL string
	// lose makes it close the connection in place of the answer to the next
	// commit of a transaction that changes a rule: a server also writes by itself.
	lose atomic.Bool
	// hold makes it hand the next commit of a transaction that may write to held
	// and wait until what it hands over is closed.
	hold atomic.Bool
	held chan chan struct{}

	// silent makes it swallow nothing and pass on nothing, as a network does
	// that has lost its way: connections stay, and nobody says anything.
	silent sync.RWMutex

	upstream string
}

func proxyTo(t *testing.T, database string) *pgProxy {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	p := &pgProxy{upstream: u.Host}
	u.Host = l.Addr().String()
	u.RawQuery = "sslmode=disable"
	p.URL = u.String()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *pgProxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	var lost atomic.Bool
	go func() {
		defer client.Close()
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			// PostgreSQL's next answer is that to the commit.
			if err != nil || lost.Load() {
				return
			}
			p.silent.RLock()
			_, err = client.Write(buffer[:n])
			p.silent.RUnlock()
			if err != nil {
				return
			}
		}
	}()
	// The first message has no type: length and parameters.
	head := make([]byte, 4)
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	if err := forward(server, client, head); err != nil {
		return
	}
	writes, rules := false, false
	prepared := map[string]string{} // queries by the names of their statements
	for {
		message := make([]byte, 5)
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(message[1:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		query := ""
		switch text := strings.Split(string(body), "\x00"); {
		case message[0] == 'Q':
			query = text[0]
		case message[0] == 'P': // name, query
			prepared[text[0]] = text[1]
		case message[0] == 'B': // portal, name
			query = prepared[text[1]]
		}
		if query = strings.ToLower(query); query != "" {
			switch {
			case strings.HasPrefix(query, "begin"):
				writes, rules = !strings.Contains(query, "read only"), false
			case strings.Contains(query, "update rules "), strings.Contains(query, "delete from rules "):
				rules = true
			case strings.HasPrefix(query, "commit") && rules && p.lose.CompareAndSwap(true, false):
				lost.Store(true)
			case strings.HasPrefix(query, "commit") && writes && p.hold.CompareAndSwap(true, false):
				release := make(chan struct{})
				p.held <- release
				<-release
			}
		}
		p.silent.RLock()
		_, err := server.Write(append(message, body...))
		p.silent.RUnlock()
		if err != nil {
			return
		}
	}
}

// forward copies the rest of a message whose length was read.
func forward(to io.Writer, from io.Reader, head []byte) error {
	if _, err := to.Write(head); err != nil {
		return err
	}
	_, err := io.CopyN(to, from, int64(binary.BigEndian.Uint32(head))-4)
	return err
}
