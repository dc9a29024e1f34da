package chaos_test

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newMappedClock returns a clock whose offset from the system clock is the content of a file, from the moment at which it is written.
func newMappedClock(name string) (now func() time.Time, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("the file of the clock: %w", err)
	}
	offset := (*int64)(unsafe.Pointer(&page[0]))
	return func() time.Time { return time.Now().Add(time.Duration(atomic.LoadInt64(offset))) }, nil
}

// setClock moves the wall clock of a node, for the running process and later ones.
func (n *node) setClock(offset time.Duration) {
	n.t.Helper()
	f, err := os.OpenFile(n.clockFile(), os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(n.t, err)
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset)), 0)
	require.NoError(n.t, err)
}

// credentials are a ticket and a js_code that a node issued.
type credentials struct {
	user, ticket, code string
	issuedAt           time.Time
}

// issueCredentials scans a code and logs a user in.
func (s *nodeChaos) issueCredentials(n *node) (c credentials) {
	s.t.Helper()
	id := s.scans.Add(1)
	c = credentials{user: fmt.Sprint("user-", id), issuedAt: time.Now()}
	app := n.connect(s.scanKey)
	index := id / 2 % scannedCodes
	d, err := app.scanAs(s.texts[index], c.user)
	app.check(err)
	c.ticket = d.ticket()
	require.True(s.t, c.ticket != "", "a scan of an active code on node %d %v, want a ticket", n.number, d)
	s.recordCodeScan(index, d)
	var login struct {
		Code string `json:"js_code"`
	}
	app.post("/scan/v1/login", map[string]any{"user": c.user, "appid": "owner0"}, &login)
	c.code = login.Code
	return c
}

// checkCredentials checks that a node accepts credentials, or reports that they have expired.
func (s *nodeChaos) checkCredentials(n *node, c credentials, valid bool, what string) {
	s.t.Helper()
	ticket, code := 0, 0
	if !valid {
		ticket, code = 40097, 40029
	}
	got := s.exchangeTicket(n, c.user, c.ticket)
	assert.Equal(s.t, got.ErrCode, ticket, "errcode of tickettocode with a ticket %s: %s", what, got.ErrMsg)
	if time.Since(c.issuedAt) > 4*time.Minute {
		return // on a very busy machine the five minutes of a js_code may be over
	}
	var session reply
	query := url.Values{"grant_type": {"authorization_code"}, "appid": {"owner0"}, "secret": {secretOf("owner0")}, "js_code": {c.code}}
	n.admin().get("/sns/jscode2session?"+query.Encode(), &session)
	assert.Equal(s.t, session.ErrCode, code, "errcode of jscode2session with a code %s: %s", what, session.ErrMsg)
}

// clockJumps are slightly more than the accepted clock skew, and more than a year.
var clockJumps = []time.Duration{25 * time.Hour, 400 * 24 * time.Hour}

// moveClock moves the wall clock of a node ahead while it runs or is down. The node issues credentials and tokens; then the clock is moved
// back, with or without a restart. Credentials that other nodes issued before stay valid; those of the node with the wrong clock have
// expired.
func (s *nodeChaos) moveClock() (what string) {
	n, other := s.randomNode(), s.randomNode()
	for other == n {
		other = s.randomNode()
	}
	ahead := clockJumps[s.rnd.IntN(len(clockJumps))]
	s.clockMoves++
	var before, later [5]credentials
	for i := range before {
		before[i] = s.issueCredentials(other)
	}
	first := other.admin().token("owner0") // no other client takes a token of /cgi-bin/token
	move := func(to time.Duration, restart bool) {
		s.moves.Add(1) // concurrent calls see either time
		s.tokensExpired.Store(true)
		if restart {
			n.kill()
			s.nodesKilled++
		}
		n.setClock(to)
		if restart {
			s.startNode(n)
		}
		var p *process
		if to > 0 {
			p = n.running.Load()
		}
		s.ahead.Store(p)
		s.moves.Add(1)
	}
	restarts := [2]bool{s.rnd.IntN(2) == 0, s.rnd.IntN(2) == 0}
	move(ahead, restarts[0])
	// Clients continue: the node works with a wrong clock.
	s.disrupted.Store(false)
	for i := range later {
		later[i] = s.issueCredentials(n)
	}
	second := n.admin().token("owner0") // no other client takes a token of /cgi-bin/token
	s.wait(30 + s.rnd.IntN(100))
	s.disrupted.Store(true)
	move(0, restarts[1])
	what = fmt.Sprintf("the clock of node %d was %v ahead (moved with a restart: %v, repaired with a restart: %v)", n.number, ahead,
		restarts[0], restarts[1])
	for _, verifier := range []*node{other, n} {
		waitFor(s.t, fmt.Sprintf("node %d to be ready", verifier.number), verifier.isReady)
	}
	for i := range before {
		verifier := []*node{other, n}[i%2]
		s.checkCredentials(verifier, before[i], true, "from before the move")
		s.checkCredentials(verifier, later[i], false, "of the clock that was ahead")
	}
	assert.Equal(s.t, n.admin().code("qrcodejumpget", first, map[string]any{}).ErrCode, 0, "errcode with a token from before the move")
	assert.Equal(s.t, n.admin().code("qrcodejumpget", second, map[string]any{}).ErrCode, 42001,
		"errcode with a token of the clock that was ahead")
	return what
}

// isTokenError reports whether an errcode concerns the token alone: it has expired or was replaced. Such a call had no effect.
func isTokenError(code int) bool { return code == 42001 || code == 40001 }

// clockState is a snapshot of the clock moves.
type clockState struct {
	moves int64
	ahead *process
}

func (s *nodeChaos) clockState() clockState { return clockState{s.moves.Load(), s.ahead.Load()} }
