# The stage platforms of ci/test.sh, which reads this file: other systems and
# processors, other versions of Go, and known vulnerabilities.
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
newest=go1.27.4 # the newest Go; go.mod names the oldest
oldest=go$(awk '$1 == "go" {print $2}' go.mod)
out_of_reach=() # what did not run for want of a network, which CI allows

under_386() {
  part "386: go vet, and go test without CatchesMutations, $few_seeds seeds a simulation"
  GOARCH=386 CGO_ENABLED=0 go vet ./...
  case $(go env GOHOSTOS GOHOSTARCH | xargs) in
    "linux amd64" | "linux 386") GOARCH=386 CGO_ENABLED=0 root_tests ;;
    *) not_run+=("the tests under 386: they need Linux on amd64") ;;
  esac
}

# Each system is built once, for the processor that it mostly has: Go's own library, which
# takes most of the time, differs by processor, and ours does not.
# Not built: bench, which measures by Linux's /proc, and e2e, which has only tests.
cross_builds() {
  local target module
  part "go build for other systems"
  for target in windows/amd64 darwin/arm64 freebsd/amd64; do
    for module in . redisstore pgstore examples/cluster; do
      echo "$target: $module"
      GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 go -C "$module" build -o /dev/null ./...
    done
  done
}

versions() {
  local version
  [ "$oldest" != "$newest" ] || part "go.mod asks for the newest Go, $newest"
  for version in $(printf '%s\n' "$oldest" "$newest" | sort -u); do
    part "$version: go vet, and go test without CatchesMutations, $few_seeds seeds a simulation"
    GOTOOLCHAIN=$version go version || { not_run+=("the tests under $version: it could not be fetched"); continue; }
    GOTOOLCHAIN=$version go vet ./...
    GOTOOLCHAIN=$version root_tests
  done
}

# Under the newest Go, so that what it finds is ours, and not an older standard library's.
vulnerabilities() {
  local module found
  part "known vulnerabilities: $govulncheck under $newest"
  for module in $(modules); do
    cd "$root/$module"
    if found=$(GOTOOLCHAIN=$newest go run "$govulncheck" ./... 2>&1); then
      echo "$module: $found"
    elif [[ $found == *"fetching vulnerabilities: "* ]]; then
      out_of_reach+=("govulncheck: the vulnerability database cannot be reached")
      echo "govulncheck: the vulnerability database cannot be reached: NOT RUN"
      break
    else
      echo "$found"
      fail "$module: govulncheck"
    fi
  done
  cd "$root"
}

platforms() {
  under_386
  cross_builds
  versions
  vulnerabilities
}
