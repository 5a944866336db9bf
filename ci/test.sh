#!/usr/bin/env bash
# Runs what must hold before a change lands: all of it, or a stage of it. A part that
# could not run is named at the end, and under CI=true it is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
fuzztime=${FUZZTIME:-10s}
few_seeds=50 # of the simulations, where they run once more
not_run=()
. ci/platforms.sh

usage() {
  cat <<EOF
Usage: ci/test.sh [everything | quick | platforms]

  everything  all that must hold, in 30 to 50 minutes on two cores: what you get without an
              argument. Run as root, it installs from Debian, with apt-get, what is
              missing of
                chromium, chromium-driver, firefox-esr,
                webkit2gtk-driver, xvfb   for e2e
                redis-server  for redisstore, examples/cluster and bench
                postgresql    for pgstore and bench
                pgbouncer     for pgstore
                nginx         for examples/cluster, examples/moving and e2e
                nodejs, npm   for bench, interop and e2e, which fetch packages from npm
                haproxy, apache2, caddy, varnish, curl, wget,
                nghttp2-client, python3-requests   for e2e
              Debian starts the servers as services, which the tests do not use.
              Otherwise install them yourself, or these parts do not run.
  quick       what needs no server and no browser, in two to five minutes: gofmt, vet,
              staticcheck, what the root module requires, its tests with the race
              detector (without the mutations, and few seeds of the simulations),
              the README's program and its curl lines, links. It installs nothing.
  platforms   the root module's tests under 386, $oldest and $newest; builds for
              Windows, macOS and FreeBSD; govulncheck. It installs nothing.

It needs Go and, for the race detector, a C compiler. Go fetches into its cache what
is not there: the modules that we require, staticcheck, and for all but quick
govulncheck and the two versions of Go.

What did not run is named at the end; with CI=true in the environment, that is a
failure. FUZZTIME (10s) is the time for each fuzz target, SEEDS (2000) the number of
histories that the simulation makes; CHROMIUM, CHROMEDRIVER, FIREFOX and WEBKITDRIVER
name the browsers to use.
EOF
}

part() { printf '\n== %s   (at %d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }
fail() { printf 'FAIL: %s\n' "$*" >&2; exit 1; }
modules() { find . -name go.mod -not -path '*/node_modules/*' -printf '%h\n' | sort; }

formatting() {
  part "gofmt"
  local unformatted
  unformatted=$(gofmt -l .)
  [ -z "$unformatted" ] || fail "not formatted: $unformatted"
}

requirements() {
  part "what the root module requires"
  local required
  required=$(go list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sort | xargs)
  echo "$required"
  [ "$required" = "github.com/fxamacker/cbor/v2 github.com/google/go-cmp golang.org/x/crypto" ] ||
    fail "the root go.mod requires more or less than the design allows"
}

chromium() { type -P "${CHROMIUM:-chromium}" || type -P google-chrome; }
chromedriver() { type -P "${CHROMEDRIVER:-chromedriver}"; }
firefox() { type -P "${FIREFOX:-firefox-esr}" || type -P firefox; }
webkit() { type -P "${WEBKITDRIVER:-WebKitWebDriver}"; }
xvfb() { type -P Xvfb; }
redis() { type -P redis-server; }
nginx() { type -P nginx; }
node() { type -P node && type -P npm; }
pgbouncer() { type -P pgbouncer; }
postgres() { ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -1 | grep . || type -P postgres; }

haproxy() { type -P haproxy; }
apache() { type -P apache2; }
caddy() { type -P caddy; }
varnish() { type -P varnishd; }
clients() { type -P curl && type -P wget && type -P nghttp && /usr/bin/python3 -c 'import requests' 2>/dev/null; }

# install installs Debian packages unless a program is there already.
install() {
  "$1" >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  [ -n "${updated:-}" ] || { apt-get update -qq >/dev/null 2>&1 && updated=1; } || true
  echo "installing $2 from Debian"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $2 >/dev/null 2>&1 || true
}
servers() {
  local program
  part "browsers and servers to test against"
  install chromium chromium
  install chromedriver chromium-driver
  install firefox firefox-esr
  install webkit webkit2gtk-driver
  install xvfb xvfb
  install redis redis-server
  install postgres postgresql
  install pgbouncer pgbouncer
  install nginx nginx
  install node "nodejs npm"
  install haproxy haproxy
  install apache apache2
  install caddy caddy
  install varnish varnish
  install clients "curl wget nghttp2-client python3-requests"
  for program in chromium chromedriver firefox webkit xvfb redis postgres pgbouncer nginx node haproxy apache caddy varnish clients; do echo "$program: $("$program" | xargs || echo none)"; done
}

# static checks the module in the working directory without running it.
static() {
  part "$1: go mod tidy, vet, staticcheck"
  go mod tidy -diff || fail "$1: go.mod is not tidy"
  go vet ./...
  go run "$staticcheck" ./...
}

# test_module runs a module's tests, or what of them can be run here.
test_module() {
  case $1 in
    ./e2e)
      local skip='^$'
      { chromium && chromedriver && firefox && webkit && xvfb; } >/dev/null || { not_run+=("e2e in browsers: install Chromium, chromedriver, Firefox, WebKitWebDriver and Xvfb"); skip+='|Browsers|InWebKit'; }
      nginx >/dev/null || { not_run+=("e2e behind nginx: install it"); skip+='|Nginx'; }
      { nginx && haproxy && apache && caddy && varnish; } >/dev/null || { not_run+=("e2e behind proxies: install nginx, HAProxy, Apache, Caddy and Varnish"); skip+='|TestProxies|TestCaches'; }
      { node && clients; } >/dev/null || { not_run+=("e2e with clients: install Node.js, npm, curl, wget, nghttp2-client and python3-requests"); skip+='|TestClients|TestHTTP2Clients'; }
      go test -race -shuffle=on -count=1 -timeout 20m -skip "$skip" ./...
      return ;;
    ./interop) node >/dev/null || { not_run+=("$1: install Node.js and npm"); return; } ;;
    ./examples/moving) nginx >/dev/null || { not_run+=("$1: install nginx"); return; } ;;
    ./redisstore) redis >/dev/null || { not_run+=("$1: install redis-server"); return; } ;;
    ./examples/cluster) { redis && nginx; } >/dev/null || { not_run+=("$1: install redis-server and nginx"); return; } ;;
    ./bench) { redis && postgres && node; } >/dev/null || { not_run+=("$1: install redis-server, PostgreSQL, Node.js and npm"); return; } ;;
    ./cmd/sealed-servers) { redis && postgres; } >/dev/null || { not_run+=("$1: install redis-server and PostgreSQL"); return; } ;;
    ./pgstore) { postgres && pgbouncer; } >/dev/null || { not_run+=("$1: install PostgreSQL and pgbouncer"); return; } ;;
  esac
  go test -race -shuffle=on -count=1 ./...
}

all_modules() {
  local module
  for module in $(modules); do
    cd "$root/$module"
    static "$module"
    part "$module: go test -race -shuffle=on"
    test_module "$module"
  done
  cd "$root"
}

# root_tests runs the root module's tests once more, with the flags given: without
# the mutations, which take minutes, and with few seeds of the simulations.
root_tests() {
  go test "$@" -count=1 -skip 'CatchesMutations|^TestSimulation$' ./...
  go test "$@" -count=1 -run '^TestSimulation$' ./keystore ./revoke -args -seeds "$few_seeds"
}

simulation() {
  local simulated
  part "the simulation of many instances, ${SEEDS:=2000} seeds"
  simulated=$(go test -count=1 -timeout 20m -run '^TestSimulation$' -v ./keystore -args -seeds "$SEEDS") ||
    { echo "$simulated"; fail "the simulation"; }
  echo "$simulated"
  [[ $simulated == *" $SEEDS seeds"* ]] || fail "the simulation did not run"
}

fuzzing() {
  local targets package target
  part "fuzzing, $fuzztime a target"
  targets=0
  for package in $(go list ./...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
      echo "$target"
      go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package"
      targets=$((targets + 1))
    done
  done
  [ "$targets" -ge 3 ] || fail "only $targets fuzz targets were found"
}

benchmarks() {
  part "benchmarks run (their times are compared by ci/bench.sh)"
  go test -run '^$' -bench . -benchtime 100x .
  go test -run '^$' -bench . -benchtime 100x ./revoke -args -entries 100000
}

readme_program() {
  part "the README's program, as a stranger's module"
  stranger=$(mktemp -d)
  trap 'rm -rf "$stranger"' EXIT
  awk '/^package main$/ {on = 1} /^```$/ {if (on) exit} on' README.md >"$stranger/main.go"
  grep -q '^func main' "$stranger/main.go" || fail "README.md has no complete program"
  cp ci/readme_test.go.txt "$stranger/main_test.go"
  (
    cd "$stranger" &&
      go mod init stranger.example/app 2>/dev/null &&
      go mod edit -require example.com/sealed@v0.0.0 -replace "example.com/sealed=$root" &&
      go mod tidy && go vet . && go test -race .
  ) || fail "the README's program does not work"
  type -P curl >/dev/null || { not_run+=("the README's curl lines: install curl"); return; }
  readme_curl $((20000 + RANDOM % 10000)) || fail "the README's curl lines do not log in"
}

# readme_curl runs the README's program on another port, and its curl lines against that.
readme_curl() (
  cd "$stranger" && sed -i "s/localhost:8080/localhost:$1/" main.go && go build -o app . || return
  SESSION_KEYS=$(./app key) ./app &
  trap "kill $!" EXIT
  for _ in $(seq 100); do curl -sf "http://localhost:$1/" >/dev/null && break || sleep 0.1; done
  grep '^curl ' "$root/README.md" | sed "s/localhost:8080/localhost:$1/; s/^curl/curl -sf/" >curl.sh
  bash -e curl.sh | tee /dev/stderr | grep -c 'Hello, alice, visit [12]' | grep -qx 2
)

release() {
  part "a release, as strangers would use it"
  [ -z "$(git status --porcelain)" ] || { not_run+=("a release: commit first"); return; }
  ci/release.sh github.com/sealed-example/sealed v0.1.0
}

links() {
  local broken file link target
  part "links in the documentation"
  broken=0
  while IFS=: read -r file link; do
    target=${link%%#*}
    [ -z "$target" ] || [ -e "$(dirname "$file")/$target" ] || { echo "$file: $link"; broken=1; }
  done < <(for file in ./*.md docs/*.md; do
    awk '/^ *```/ {code = !code; next} !code' "$file" | grep -oE '\]\([^)]+\)|(src|srcset)="[^"]+"' | sed "s|^|$file:|"
  done | sed -E 's/(\]\(|(src|srcset)=")([^)"]*)[)"]/\3/' | grep -v 'https\?://' || true)
  [ "$broken" = 0 ] || fail "broken links"
}

quick() {
  formatting
  requirements
  static .
  part ".: go test -race -shuffle=on without CatchesMutations, $few_seeds seeds a simulation"
  root_tests -race -shuffle=on
  readme_program
  links
}

everything() {
  formatting
  requirements
  servers
  all_modules
  simulation
  fuzzing
  benchmarks
  readme_program
  links
  release
  platforms
}

[ $# -le 1 ] || { usage >&2; exit 2; }
case ${1-everything} in
  -h | --help) usage; exit ;;
  quick | platforms | everything) "${1-everything}" ;;
  *) printf 'ci/test.sh: unknown argument %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
esac

part "done"
for what in "${out_of_reach[@]+"${out_of_reach[@]}"}"; do echo "NOT RUN, which CI allows: $what"; done
for what in "${not_run[@]+"${not_run[@]}"}"; do echo "NOT RUN: $what"; done
[ "${#not_run[@]}" = 0 ] || [ "${CI:-}" != true ] || fail "a part that belongs to CI did not run"
echo "All that ran has passed."
