// Package endurance is tests only: the whole server over real HTTP, killed at
// any instant, at the edge of the publish quota, and asked by one connection
// for what another has just changed. On both databases.
//
//	go test ./endurance                                      // 20 kills
//	KILL_ROUNDS=200 go test -run 'TestKill$' -timeout 60m ./endurance
//	KILL_SEED=1234 go test -run 'TestKill$' ./endurance        // the same choices again
//
// TEST_POSTGRES=postgres://… adds PostgreSQL; every test makes a database of
// its own there.
package endurance
