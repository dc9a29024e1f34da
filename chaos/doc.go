// Package chaos contains only tests, which try to break the promises in docs/en/handbook.md. The tests run complete servers over HTTP in
// processes that are killed at random times; three nodes on a PostgreSQL primary with a synchronous replica, where a process may die, stop
// during an import or have a wrong clock, and where both database servers accept writes; a stream that loses its data while webhooks lag; a
// disk that loses unsynced data; disks and databases that are full, read-only, unresponsive or of another version; races for the last
// publish and for one prefix; upgrades from an earlier program.
//
//	go test ./chaos                                       // a minute or two
//	make chaos CHAOS_MINUTES=8                                // a longer run
//	QRJUMP_TEST_SEED=1234 go test -run 'TestServerKill_AcknowledgedWritesSurvive$' ./chaos // reproduces a run
//	KILL_ROUNDS=200 go test -run 'TestServerKill_AcknowledgedWritesSurvive$' -timeout 60m ./chaos
//
// POWER_CUTS and RACE_ROUNDS set the number of rounds of other tests, as KILL_ROUNDS does for
// TestServerKill_AcknowledgedWritesSurvive.
//
// TEST_POSTGRES=postgres://… adds PostgreSQL; every test creates its own database there, or a pair of servers (scripts/postgres.sh).
package chaos
