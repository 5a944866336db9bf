// Package bench compares sealed cookies with sessions that live in a store: the same
// application, served with each of them through its own public API. The tests hold
// every contender to its job, and
//
//	go test -run '^$' -bench . .
//
// gives the time and the allocations of one request of each.
package bench
