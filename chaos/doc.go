// Package chaos contains only tests, which try to break the promises in docs/en/handbook.md. The tests run the whole server over
// real HTTP, in processes that are killed at any time; three nodes on a PostgreSQL primary with a synchronous replica, where any
// process may die, stall in the middle of an import or have a wrong clock, and both servers accept writes; a stream that loses its
// folder while webhooks lag; a disk that loses unsynced data; disks and databases that are full, read-only, unresponsive or of
// another version; races for the last publish and for one prefix; upgrades from the previous program.
//
//	go test ./chaos                                       // a minute or two
//	make chaos CHAOS_MINUTES=8                                // as much as the time holds
//	QRJUMP_TEST_SEED=1234 go test -run 'TestServerKill_AcknowledgedWritesSurvive$' ./chaos // the same choices again
//	KILL_ROUNDS=200 go test -run 'TestServerKill_AcknowledgedWritesSurvive$' -timeout 60m ./chaos
//
// POWER_CUTS, RACE_ROUNDS and PREFIX_ROUNDS set the number of rounds of other tests, as KILL_ROUNDS does for
// TestServerKill_AcknowledgedWritesSurvive.
//
// TEST_POSTGRES=postgres://… adds PostgreSQL; every test creates its own database there, or a pair of servers
// (scripts/postgres.sh).
package chaos
