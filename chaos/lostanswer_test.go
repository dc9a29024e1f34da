package chaos_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// TestCommit_LostResponse breaks the connection after PostgreSQL has committed a change and before its response. The caller receives an
// error; the stored state and the result of a scan must still agree.
func TestCommit_LostResponse(t *testing.T) {
	proxy := newPGProxy(t, newDatabase(t), "127.0.0.1:0")
	srv := qrjumptest.Start(t, qrjumptest.Database(proxy.URL), qrjumptest.Seed(visibleSeed))
	wire := mustConnect(t, srv.URL, "")
	token := wire.token("left")
	const prefix = "https://left.example/t/"
	stored := func() string {
		rules := wire.ok("qrcodejumpget", token, map[string]any{}).RuleList
		if len(rules) == 0 {
			return "nothing"
		}
		return fmt.Sprintf("state %d", rules[0].State)
	}
	commitWithoutResponse := func(call string, body any) {
		t.Helper()
		proxy.dropResponse.Store(true)
		got := wire.code(call, token, body)
		require.Equal(t, got.ErrCode, -1, "errcode of %s whose commit has no response: %s", call, got.ErrMsg)
		require.True(t, !proxy.dropResponse.Load(), "%s made no commit", call)
	}

	wire.ok("qrcodejumpadd", token, add(prefix, "pages/a"))
	commitWithoutResponse("qrcodejumppublish", prefixOnly(prefix))
	if got, d := stored(), wire.scan(prefix+"1"); got != "state 2" || !d.opens() {
		t.Errorf("after a publish without a response: stored %s, a scan %v, want state 2 and the rule", got, d)
	}
	wire.ok("qrcodejumpdelete", token, prefixOnly(prefix))
	wire.ok("qrcodejumpadd", token, add(prefix, "pages/b"))
	wire.ok("qrcodejumppublish", token, prefixOnly(prefix))
	commitWithoutResponse("qrcodejumpdelete", prefixOnly(prefix))
	if got, d := stored(), wire.scan(prefix+"1"); got != "nothing" || d.opens() {
		t.Errorf("after a delete without a response: stored %s, a scan %v, want neither", got, d)
	}
}

// TestCommit_CallerDisconnects verifies that a caller that disconnects while PostgreSQL commits does not cancel the commit: a cancelled
// commit could still take effect after the outcome was checked.
func TestCommit_CallerDisconnects(t *testing.T) {
	proxy := newPGProxy(t, newDatabase(t), "127.0.0.1:0")
	s, err := store.Open(t.Context(), store.Target{URL: proxy.URL})
	require.NoError(t, err)
	defer s.Close()
	ctx, disconnect := context.WithCancel(t.Context())
	proxy.held = make(chan chan struct{})
	proxy.holdCommit.Store(true)
	done := make(chan error, 1)
	go func() {
		done <- s.UpdateRules(ctx, func(tx rules.Tx) error {
			return tx.PutDomain(ctx, rules.Domain{Host: "left.example", Status: rules.Denied})
		})
	}()
	release := <-proxy.held
	disconnect()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the commit of a disconnected caller: %v, want success", err)
	}
	err = s.UpdateRules(ctx, func(rules.Tx) error { t.Error("a transaction began"); return nil })
	assert.ErrorIs(t, err, context.Canceled, "a transaction of a disconnected caller")
}

// pgProxy is a proxy between a server and PostgreSQL.
type pgProxy struct {
	URL string
	// dropResponse makes the proxy close the connection instead of forwarding the response to the next commit of a transaction that changes
	// a rule; other transactions of the server do not count.
	dropResponse atomic.Bool
	// holdCommit makes the proxy send a channel to held at the next commit of a writing transaction, and wait until the channel is closed.
	holdCommit atomic.Bool
	held       chan chan struct{}
	// silent, while write-locked, makes the proxy forward nothing, like a network that drops all packets: connections stay open.
	silent sync.RWMutex

	upstream string
}

// newPGProxy starts a proxy to a database that listens on an address; pgProxy.URL is the URL of the database with this address.
func newPGProxy(t *testing.T, database, address string) *pgProxy {
	t.Helper()
	u := parseURL(t, database)
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	p := &pgProxy{upstream: u.Host}
	u.Host = l.Addr().String()
	p.URL = dbtest.WithOption(dbtest.WithOption(u.String(), "sslmode", "disable"), "connect_timeout", "")
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
	var dropping atomic.Bool
	go func() {
		defer client.Close()
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			// The next response of PostgreSQL is that to the commit.
			if err != nil || dropping.Load() || p.forward(client, buffer[:n]) != nil {
				return
			}
		}
	}()
	// The first message has no type: length and parameters.
	message, _, err := readMessage(client, 0)
	writes, changesRules := false, false
	prepared := map[string]string{} // queries by statement name
	for err == nil && p.forward(server, message) == nil {
		var body string
		if message, body, err = readMessage(client, 1); err != nil {
			return
		}
		query := ""
		switch text := strings.Split(body, "\x00"); message[0] {
		case 'Q':
			query = text[0]
		case 'P': // name, query
			prepared[text[0]] = text[1]
		case 'B': // portal, name
			query = prepared[text[1]]
		}
		switch query = strings.ToLower(query); {
		case strings.HasPrefix(query, "begin"):
			writes, changesRules = !strings.Contains(query, "read only"), false
		case strings.Contains(query, "update rules "), strings.Contains(query, "delete from rules "):
			changesRules = true
		case strings.HasPrefix(query, "commit") && changesRules && p.dropResponse.CompareAndSwap(true, false):
			dropping.Store(true)
		case strings.HasPrefix(query, "commit") && writes && p.holdCommit.CompareAndSwap(true, false):
			release := make(chan struct{})
			p.held <- release
			<-release
		}
	}
}

// forward writes a part of a stream, unless the proxy is silent.
func (p *pgProxy) forward(to io.Writer, part []byte) error {
	p.silent.RLock()
	defer p.silent.RUnlock()
	_, err := to.Write(part)
	return err
}

// readMessage reads a message with typeLength bytes before its length.
func readMessage(from io.Reader, typeLength int) (message []byte, body string, err error) {
	message = make([]byte, typeLength+4)
	if _, err = io.ReadFull(from, message); err != nil {
		return nil, "", err
	}
	rest := make([]byte, binary.BigEndian.Uint32(message[typeLength:])-4)
	_, err = io.ReadFull(from, rest)
	return append(message, rest...), string(rest), err
}
