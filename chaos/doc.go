// Package chaos is tests only: it tries to break what docs/en/handbook.md
// promises. The whole server over real HTTP, in processes that are killed at any
// instant; three nodes on a PostgreSQL primary with a synchronous replica, of
// which anything may die, stand still in the middle of an import or have a wrong clock, and both servers take writes; a stream
// that loses its folder while webhooks are behind; a disk that loses what was not synced; disks and
// databases that are full, read-only, silent or of another version; races for
// the last publish and for one prefix; upgrades from the previous program.
//
//	go test ./chaos                                       // a minute or two
//	make chaos CHAOS_MINUTES=8                                // as much as the time holds
//	QRJUMP_TEST_SEED=1234 go test -run 'TestKill$' ./chaos // the same choices again
//	KILL_ROUNDS=200 go test -run 'TestKill$' -timeout 60m ./chaos
//
// So with POWER_CUTS, RACE_ROUNDS, PREFIX_ROUNDS.
//
// TEST_POSTGRES=postgres://… adds PostgreSQL; every test makes a database of
// its own there, or a pair of servers (scripts/postgres.sh).
package chaos
