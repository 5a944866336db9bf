#!/usr/bin/env bash
# Compares the benchmarks with their floors: medians over interleaved rounds of
# one run, since times on one machine drift. Each runs in a process of its own, in
# another order each round: with another's heap (the list of five million) beside it,
# the garbage collector would hardly run, and the one would seem faster than it is.
# It fails if a ratio is more than it may be.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-15}
go test -c -o /tmp/sealed-bench.$$ .
trap 'rm -f /tmp/sealed-bench.$$' EXIT
names='Untouched Get FloorGet StepsGet Update FloorUpdate StepsUpdate GetListed/list=false GetListed/list=true NewGoroutine/Get NewGoroutine/FloorGet'
for _ in $(seq "$rounds"); do
  for name in $(shuf -e $names); do
    /tmp/sealed-bench.$$ -test.run '^$' -test.bench "^Benchmark${name/\//\$/^}\$" -test.benchtime 0.2s
  done
done | awk -v all="$names" '
  /^Benchmark/ { sub(/-[0-9]+$/, "", $1); sub(/^Benchmark/, "", $1); n[$1]++; ns[$1, n[$1]] = $3; bytes[$1] = $5; allocs[$1] = $7 }
  function median(name,   i, j, t, v, c) {
    c = n[name]; for (i = 1; i <= c; i++) v[i] = ns[name, i] + 0
    for (i = 2; i <= c; i++) { t = v[i]; for (j = i - 1; j > 0 && v[j] > t; j--) v[j+1] = v[j]; v[j+1] = t }
    return v[int((c + 1) / 2)]
  }
  # limit prints a ratio and the most that it may be, and notes whether it is more. The
  # ratio of a benchmark that did not run is no number, or 0, and fails too.
  function limit(what, name, floor, most, note,   quotient, ok) {
    quotient = n[floor] ? sprintf("%.2f", median(name) / median(floor)) : "none"
    ok = (quotient + 0 > 0 && quotient + 0 <= most)
    printf "%-23s %s (at most %.2f%s)\n", what, quotient, most, note
    if (!ok) failed = failed sprintf("\nFAIL: %s is %s, not at most %.2f", what, quotient, most)
  }
  # ratio prints one that has no limit: what is beyond the steps alone is most of a session.
  function ratio(name, steps) { printf "%-23s %.2f\n", name " / " steps, n[steps] ? median(name) / median(steps) : 0 }
  END {
    count = split(all, names, " ")
    printf "%-23s %10s %8s %8s   medians of %d rounds\n", "benchmark", "ns/op", "B/op", "allocs", n["Get"]
    for (i = 1; i <= count; i++) printf "%-23s %10.0f %8d %8d\n", names[i], median(names[i]), bytes[names[i]], allocs[names[i]]
    print ""
    limit("Untouched / FloorGet", "Untouched", "FloorGet", 0.25)
    limit("Get / FloorGet", "Get", "FloorGet", 1.05)
    limit("with a list / without", "GetListed/list=true", "GetListed/list=false", 1.10, "; the list has five million entries")
    limit("Update / FloorUpdate", "Update", "FloorUpdate", 1.10)
    limit("each on a new goroutine", "NewGoroutine/Get", "NewGoroutine/FloorGet", 0.80, "; Get / FloorGet, as over HTTP/2")
    ratio("Get", "StepsGet"); ratio("FloorGet", "StepsGet")
    ratio("Update", "StepsUpdate"); ratio("FloorUpdate", "StepsUpdate")
    if (failed) { print failed; exit 1 }
  }'
