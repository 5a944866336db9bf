//go:build race

package sealed_test

// raceAllocations is what the race detector adds to those of a request.
const raceAllocations = 1
