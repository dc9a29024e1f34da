package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

// Faults of TestChaos_NodesOnPostgres that are of many nodes: issue 29.

// importedRules is more than an import writes in one short transaction.
const importedRules = 1500

// importStopped: a node stands still at any moment of an import, until PostgreSQL has ended its sessions or for a shorter
// while; or it is killed there. All rules of the file are there afterwards, new or changed, or none; brought once more, all.
func (s *storm) importStopped() string {
	n := s.victim()
	p := n.running.Load()
	s.imports++
	prefix := fmt.Sprintf("https://import.example/%d/", (s.imports+1)/2) // every other import changes the rules of the one before
	var file strings.Builder
	for i := range importedRules {
		fmt.Fprintf(&file, `{"owner":"importer","prefix":"%s%d/","path":"pages/%d","published":true}`+"\n", prefix, i, s.imports)
	}
	const reserved = `SELECT count(*) FROM changes WHERE kind = 'numbers'`
	before := dbtest.Number(s.t, s.cluster.database, reserved)
	answer := make(chan int, 1)
	go func() { answer <- bring(p.URL, file.String()) }()
	until(s.t, "an import to write", func() bool { return dbtest.Number(s.t, s.cluster.database, reserved) > before })
	time.Sleep(time.Duration(s.rnd.IntN(1000)) * time.Millisecond) // any moment of an import is none that can be waited for
	what := fmt.Sprintf("node %d stood still in the middle of an import", n.number)
	switch dice := s.rnd.IntN(3); {
	case dice == 0:
		what = fmt.Sprintf("kill -9 of node %d in the middle of an import", n.number)
		n.kill()
		s.nodesKilled++
		began := s.history.now()
		n.start()
		s.history.add(entry{call: began, back: s.history.now(), did: "start", life: n.running.Load().life})
	case dice == 1 && s.long:
		what += " until its sessions were ended"
		p.signal(syscall.SIGSTOP)
		until(s.t, "the sessions to be ended", func() bool {
			return dbtest.Number(s.t, s.cluster.database,
				fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'node%d' AND xact_start IS NOT NULL`, n.number)) == 0
		})
		p.signal(syscall.SIGCONT)
	default:
		p.pause(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
	}
	status := <-answer
	there := func() int64 {
		return dbtest.Number(s.t, s.cluster.database, fmt.Sprintf(
			`SELECT count(*) FROM rules WHERE owner = 'importer' AND prefix LIKE '%s%%' AND path = 'pages/%d'`, prefix, s.imports))
	}
	if got := there(); got != importedRules && (got != 0 || status == http.StatusOK) {
		s.t.Errorf("%s: it was answered %d, and %d of %d rules are there", what, status, got, importedRules)
	}
	other := s.victim()
	until(s.t, "the import to work", func() bool { return bring(other.running.Load().URL, file.String()) == http.StatusOK || s.t.Failed() })
	assert.Equal(s.t, there(), importedRules, "%s", what)
	for _, n := range s.cluster.nodes {
		scans := must{connect(s.t, n.running.Load().URL, s.scanKey), s.t}
		until(s.t, fmt.Sprintf("node %d to show imported rules", n.number), func() bool {
			d := scans.scan(fmt.Sprintf("%s%d/x", prefix, s.rnd.IntN(importedRules)))
			s.mu.Lock()
			s.ledger = append(s.ledger, d.ScanID)
			s.mu.Unlock()
			return d.opens()
		})
	}
	return what
}

// bring imports rules on a node; 0 is no answer.
func bring(node, file string) int {
	req, err := http.NewRequest(http.MethodPost, node+"/admin/v1/import/rules", strings.NewReader(file))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// replaced: each node ends in order and another takes its place, one after the other, as an upgrade does it.
func (s *storm) replaced() string {
	s.rolls++
	for _, n := range s.cluster.nodes {
		n.stop() // and wants 0
		began := s.history.now()
		n.start()
		s.history.add(entry{call: began, back: s.history.now(), did: "start", life: n.running.Load().life})
	}
	return "all nodes were replaced"
}

// twoPrimaries: the replica is promoted, and the old primary goes on. What it confirms to nobody is nowhere; all nodes go
// on with the new one. Tokens that one of them made are not known to another before that.
func (s *storm) twoPrimaries() string {
	s.splits++
	s.stale.Store(true)
	s.split.Store(true)
	s.pair.promote()
	for _, n := range s.cluster.nodes {
		until(s.t, fmt.Sprintf("node %d to see two primaries", n.number), func() bool { return n.metric("qrjump_db_primaries") == 2 })
	}
	s.cluster.allReady()
	s.split.Store(false)
	s.raging.Store(false)
	s.wait(30 + s.rnd.IntN(100))
	s.raging.Store(true)
	s.pair.script("kill", s.pair.dirs[1-s.pair.primary])
	s.pair.heal()
	return "two servers took writes"
}
