package scale

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// mostSimulated bounds how many logins a day are simulated one by one. A larger site is
// simulated in part, and multiplied.
const mostSimulated = 500_000

// simulated is what there was in the last day of a simulation.
type simulated struct {
	mean, peak steady
	logins     int      // simulated one by one, in all
	minutes    []steady // of the last day
}

// shape is how busy a minute of the day is, as a multiple of the average: least at four
// in the morning, and most twelve hours later.
func shape(minute int) float64 {
	return 1 + (peak-1)*math.Sin(2*math.Pi*(float64(minute)/1440-10.0/24))
}

// A visit is one session, in minutes from the start.
type visit struct{ begins, ends, expires int }

// visits draws those of so many minutes, or a share of them.
func (s Site) visits(rng *rand.Rand, share float64, minutes int) iter.Seq[visit] {
	return func(yield func(visit) bool) {
		for minute := range minutes {
			for range poisson(rng, s.Logins*share/1440*shape(minute)) {
				v := visit{minute, 0, minute + int(s.Lifetime/time.Minute)}
				v.ends = v.expires
				if rng.Float64() < s.Logouts/s.Logins {
					v.ends = min(v.expires, minute+int(rng.ExpFloat64()*s.Stay.Minutes()))
				}
				if !yield(v) {
					return
				}
			}
		}
	}
}

// simulatedMinutes is for how long a simulation goes on: as long as a session lasts,
// two days more until the list has forgotten it, and one to count.
func (s Site) simulatedMinutes() int { return (int(s.Lifetime/day) + 1 + 2 + 1) * 1440 }

// simulate follows each session until the list forgets it.
func (s Site) simulate(rng *rand.Rand) (result simulated) {
	share, last := min(1, mostSimulated/s.Logins), s.simulatedMinutes()
	sessions, entries := make([]int, last+1), make([]int, last+1) // how many more than a minute before
	count := func(changes []int, from, to int) {
		if from < last {
			changes[from]++
			changes[min(to, last)]--
		}
	}
	for v := range s.visits(rng, share, last) {
		result.logins++
		count(sessions, v.begins, v.ends)
		if v.ends < v.expires {
			count(entries, v.ends, forgotten(v.ends, v.expires))
		}
	}
	var now steady
	for minute := range last {
		now.sessions += float64(sessions[minute]) / share
		now.entries += float64(entries[minute]) / share
		if minute < last-1440 {
			continue
		}
		result.minutes = append(result.minutes, now)
		result.mean.sessions += now.sessions / 1440
		result.mean.entries += now.entries / 1440
		result.peak.sessions = max(result.peak.sessions, now.sessions)
		result.peak.entries = max(result.peak.entries, now.entries)
	}
	return result
}

// forgotten is the minute in which the list drops an entry that it got at a minute, of
// a session that would have ended later: after the hour in which that is, and five
// minutes for clocks that differ. Ends that are far off are kept less exactly, as
// package revoke does it.
func forgotten(at, expires int) int {
	hour, span := (expires+5)/60, 1
	switch left := hour - at/60; {
	case left > 64*24:
		span = 8 * 24
	case left > 16*24:
		span = 24
	case left > 48:
		span = 6
	}
	return ((hour+span-1)/span*span + 1) * 60
}

// poisson draws how many come when so many are expected.
func poisson(rng *rand.Rand, expected float64) int {
	if expected > 50 { // near enough to the normal distribution
		return max(0, int(math.Round(expected+math.Sqrt(expected)*rng.NormFloat64())))
	}
	n, left := 0, rng.ExpFloat64()
	for left < expected {
		left += rng.ExpFloat64()
		n++
	}
	return n
}
