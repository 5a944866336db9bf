//go:build !race

package sealed_test

const raceAllocations = 0
