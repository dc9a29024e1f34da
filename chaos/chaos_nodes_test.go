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

// importedRules exceeds the number of rules that an import writes in a short transaction.
const importedRules = 1500

// interruptImport stops or kills a node at a random time of an import; a stopped node continues shortly afterwards or when PostgreSQL has
// ended its sessions. All changes of the file or none must be stored; a repeated import must store all.
func (s *nodeChaos) interruptImport() string {
	n := s.randomNode()
	p := n.running.Load()
	s.imports++
	prefix := fmt.Sprintf("https://import.example/%d/", (s.imports+1)/2) // every second import changes the rules of the previous one
	var file strings.Builder
	for i := range importedRules {
		fmt.Fprintf(&file, `{"owner":"importer","prefix":"%s%d/","path":"pages/%d","published":true}`+"\n", prefix, i, s.imports)
	}
	const reserved = `SELECT count(*) FROM changes WHERE kind = 'numbers'`
	before := dbtest.QueryInt(s.t, s.cluster.database, reserved)
	result := make(chan int, 1)
	go func() { result <- importRules(p.URL, file.String()) }()
	waitFor(s.t, "an import to reserve numbers", func() bool { return dbtest.QueryInt(s.t, s.cluster.database, reserved) > before })
	time.Sleep(time.Duration(s.rnd.IntN(1000)) * time.Millisecond) // a random time of the import is no event to wait for
	what := fmt.Sprintf("node %d was stopped during an import", n.number)
	switch dice := s.rnd.IntN(3); {
	case dice == 0:
		what = fmt.Sprintf("kill -9 of node %d during an import", n.number)
		n.kill()
		s.nodesKilled++
		s.startNode(n)
	case dice == 1 && s.long:
		what += " until its sessions ended"
		p.signal(syscall.SIGSTOP)
		waitFor(s.t, "the sessions to end", func() bool {
			return dbtest.QueryInt(s.t, s.cluster.database,
				fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'node%d' AND xact_start IS NOT NULL`,
					n.number)) == 0
		})
		p.signal(syscall.SIGCONT)
	default:
		p.pause(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
	}
	status := <-result
	stored := func() int64 {
		return dbtest.QueryInt(s.t, s.cluster.database, fmt.Sprintf(
			`SELECT count(*) FROM rules WHERE owner = 'importer' AND prefix LIKE '%s%%' AND path = 'pages/%d'`, prefix, s.imports))
	}
	got := stored()
	assert.True(s.t, got == importedRules || got == 0 && status != http.StatusOK,
		"%s: the import returned %d, and %d of %d rules are stored", what, status, got, importedRules)
	other := s.randomNode()
	waitFor(s.t, "the import to succeed", func() bool {
		return importRules(other.serverURL(), file.String()) == http.StatusOK || s.t.Failed()
	})
	assert.Equal(s.t, stored(), importedRules, "rules after a repeated import; %s", what)
	for _, n := range s.cluster.nodes {
		scans := n.connect(s.scanKey)
		waitFor(s.t, fmt.Sprintf("node %d to open imported rules", n.number), func() bool {
			d := scans.scan(fmt.Sprintf("%s%d/x", prefix, s.rnd.IntN(importedRules)))
			s.mu.Lock()
			s.scanIDs = append(s.scanIDs, d.ScanID)
			s.mu.Unlock()
			return d.opens()
		})
	}
	return what
}

// importRules imports a file through a node and returns the status; 0 if there is no response.
func importRules(base, file string) int {
	r, _ := send(http.DefaultClient, http.MethodPost, base+"/admin/v1/import/rules", "application/x-ndjson", file, adminToken)
	return r.status
}

// replaceNodes stops and starts the nodes one by one, like a rolling upgrade.
func (s *nodeChaos) replaceNodes() string {
	s.replacements++
	for _, n := range s.cluster.nodes {
		n.stop()
		s.startNode(n)
	}
	return "all nodes were replaced"
}

// splitBrain promotes the replica while the old primary runs: no commit of the old primary may be acknowledged, and all nodes continue on
// the new primary. Tokens that a node issued meanwhile are unknown to the other nodes.
func (s *nodeChaos) splitBrain() string {
	s.splits++
	s.tokensExpired.Store(true)
	s.split.Store(true)
	s.postgres.promote()
	for _, n := range s.cluster.nodes {
		waitFor(s.t, fmt.Sprintf("node %d to see two primaries", n.number), func() bool { return n.metric("qrjump_db_primaries") == 2 })
	}
	s.cluster.waitUntilReady()
	s.split.Store(false)
	s.disrupted.Store(false)
	s.wait(30 + s.rnd.IntN(100))
	s.disrupted.Store(true)
	s.postgres.script("kill", s.postgres.dirs[1-s.postgres.primary])
	s.postgres.rebuildReplica()
	return "two servers accepted writes"
}
