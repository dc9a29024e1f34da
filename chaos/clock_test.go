package chaos_test

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// movedClock is the wall clock of a process that somebody else moves: it is ahead
// by what a file says, from the moment at which it is written there.
func movedClock(name string) (now func() time.Time, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("the file of the clock: %w", err)
	}
	ahead := (*int64)(unsafe.Pointer(&page[0]))
	return func() time.Time { return time.Now().Add(time.Duration(atomic.LoadInt64(ahead))) }, nil
}

// setClock moves the wall clock of a node, now and for its next processes.
func (n *node) setClock(ahead time.Duration) {
	n.t.Helper()
	f, err := os.OpenFile(n.clock(), os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(n.t, err)
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead)), 0); err != nil {
		n.t.Fatal(err)
	}
}

// given is what a node gave out to one who scans and logs in.
type given struct {
	user, ticket, code string
	at                 time.Time
}

// give scans a code and logs a user in.
func (s *storm) give(n *node) (g given) {
	s.t.Helper()
	id := s.scans.Add(1)
	g = given{user: fmt.Sprint("user-", id), at: time.Now()}
	app := must{connect(s.t, n.running.Load().URL, s.scanKey), s.t}
	index := id / 2 % scannedCodes
	var d decision
	app.check(app.do(http.MethodPost, "/scan/v1/resolve", map[string]any{"text": s.texts[index], "user": g.user}, &d))
	_, text, found := strings.Cut(d.Path, "code_ticket=")
	require.True(s.t, found, "a scan of an active code on node %d %v", n.number, d)
	g.ticket, _, _ = strings.Cut(text, "&")
	s.noteCode(index, d)
	var login struct {
		Code string `json:"js_code"`
	}
	app.check(app.do(http.MethodPost, "/scan/v1/login", map[string]any{"user": g.user, "appid": "owner0"}, &login))
	g.code = login.Code
	return g
}

// plain takes a plain token of owner0, which nobody else does.
func (s *storm) plain(n *node) string { return n.admin().token("owner0") }

// traded wants what a node says of what was given out: it is good, or it has ended.
func (s *storm) traded(n *node, g given, good bool, what string) {
	s.t.Helper()
	ticket, code := 0, 0
	if !good {
		ticket, code = 40097, 40029
	}
	if got := s.trade(n, g.user, g.ticket); got.ErrCode != ticket {
		s.t.Errorf("the ticket %s: %d %s, want %d", what, got.ErrCode, got.ErrMsg, ticket)
	}
	if time.Since(g.at) > 4*time.Minute {
		return // on a machine that is this busy the five minutes of a js_code may be over
	}
	var session reply
	admin := n.admin()
	query := url.Values{"grant_type": {"authorization_code"}, "appid": {"owner0"}, "secret": {secretOf("owner0")}, "js_code": {g.code}}
	admin.check(admin.do(http.MethodGet, "/sns/jscode2session?"+query.Encode(), nil, &session))
	assert.True(s.t, session.ErrCode == code, "the js_code %s: %d %s, want %d", what, session.ErrCode, session.ErrMsg, code)
}

// How far a clock jumps: just further than what is believed, and into another year.
var jumps = []time.Duration{25 * time.Hour, 400 * 24 * time.Hour}

// jumped: the wall clock of a node jumps ahead, while it runs or while it is down.
// It scans, logs in and issues tokens; then it is repaired, by a step back or
// with a restart. A code that other nodes gave out before is good; what it gave out
// itself while it was ahead has ended.
func (s *storm) jumped() (what string) {
	n, other := s.victim(), s.victim()
	for other == n {
		other = s.victim()
	}
	ahead := jumps[s.rnd.IntN(len(jumps))]
	s.jumps++
	const each = 5
	var before, late [each]given
	for i := range before {
		before[i] = s.give(other)
	}
	first := s.plain(other)
	move := func(to time.Duration, restart bool) {
		s.moves.Add(1) // what is under way is of both times
		s.stale.Store(true)
		if restart {
			n.kill()
			s.nodesKilled++
		}
		n.setClock(to)
		if restart {
			began := s.history.now()
			n.start()
			s.history.add(entry{call: began, back: s.history.now(), did: "start", life: n.running.Load().life})
		}
		var p *process
		if to > 0 {
			p = n.running.Load()
		}
		s.ahead.Store(p)
		s.moves.Add(1)
	}
	how := [2]bool{s.rnd.IntN(2) == 0, s.rnd.IntN(2) == 0}
	move(ahead, how[0])
	// A client that lost a call with the process goes on: the node works, its clock is wrong.
	s.raging.Store(false)
	for i := range late {
		late[i] = s.give(n)
	}
	second := s.plain(n)
	s.wait(30 + s.rnd.IntN(100))
	s.raging.Store(true)
	move(0, how[1])
	what = fmt.Sprintf("the clock of node %d was %v ahead (started so: %v, repaired with a restart: %v)", n.number, ahead, how[0], how[1])
	for _, judge := range []*node{other, n} {
		until(s.t, fmt.Sprintf("node %d to be ready", judge.number), judge.ready)
	}
	for i := range before {
		judge := []*node{other, n}[i%2]
		s.traded(judge, before[i], true, "of before the jump")
		s.traded(judge, late[i], false, "of the clock that was ahead")
	}
	if got := n.admin().code("qrcodejumpget", first, map[string]any{}); got.ErrCode != 0 {
		s.t.Errorf("a token of before the jump: %d %s", got.ErrCode, got.ErrMsg)
	}
	if got := n.admin().code("qrcodejumpget", second, map[string]any{}); got.ErrCode != 42001 {
		s.t.Errorf("a token of the clock that was ahead: %d %s, want 42001", got.ErrCode, got.ErrMsg)
	}
	return what
}

// isStale reports whether an answer is about the token alone: it has ended, or
// another one has its place. A call that is answered so had no effect.
func isStale(code int) bool { return code == 42001 || code == 40001 }

// moment is a state of the clocks.
type moment struct {
	moves int64
	ahead *process
}

func (s *storm) moment() moment { return moment{s.moves.Load(), s.ahead.Load()} }
