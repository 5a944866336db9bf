#!/usr/bin/env bash
# Prepares a release under a module path, and proves that strangers can use it.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<EOF
Usage: ci/release.sh [-keep] MODULE VERSION

Makes a clone of HEAD in a temporary folder, in which
  - the module path is MODULE, in the whole tree,
  - the modules that others import require each other's VERSION, without replace,
  - each of them has its tag: ${published[*]/#/VERSION, } VERSION.
Then a stranger's module requires them from a file-based module proxy, and builds and
runs the README's program, a program with both servers, and the commands.

With -keep the clone stays, and the last lines say how to publish it. Nothing is pushed.
EOF
}
fail() { printf 'ci/release.sh: %s\n' "$*" >&2; exit 1; }
step() { printf -- '-- %s\n' "$*"; }

# The modules that others import, each behind those that it requires.
published=(redisstore pgstore otelsealed cmd/sealed-servers)

check_arguments() {
  [[ $version =~ ^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$ ]] ||
    fail "the version $version is not like v1.2.3 or v1.2.3-rc.1"
  local major=${BASH_REMATCH[1]}
  [[ $module =~ ^[a-z0-9][a-z0-9.-]*\.[a-z]+(/[A-Za-z0-9._-]+)+$ ]] || fail "the module path $module is not like example.org/name"
  if [ "$major" -ge 2 ]; then
    [[ $module == */v$major ]] || fail "the path of version $version must end in /v$major (https://go.dev/ref/mod#major-version-suffixes)"
  else
    [[ ! $module =~ /v[0-9]+$ ]] || fail "the path of version $version must not end in a version"
  fi
  [ -z "$(git status --porcelain)" ] || fail "the working tree is not clean"
}

# rename gives the tree its path, wherever it stands. What has the path of a module
# that is not published keeps its replace.
rename() {
  local old
  old=$(go list -m)
  step "$old becomes $module"
  git grep -lzI --fixed-strings "$old" | xargs -0 sed -i "s#${old//./\\.}#$module#g"
  gofmt -l . | xargs -r gofmt -w # imports are sorted by path
  ! git grep -qI --fixed-strings "$old" || fail "the old path is left: $(git grep -lI --fixed-strings "$old" | xargs)"
  sed -i "s/^## Unreleased\$/## $version/" CHANGELOG.md
  awk -v get="go get $module@$version" '
    /^Until the module is published/ { next }
    /^go mod edit -require .* -replace / || /# when it is published/ { print get; next }
    { print }' README.md | cat -s >README.new
  mv README.new README.md
}

# require_each_other replaces the replace directives by requirements.
require_each_other() {
  local folder other
  for folder in "${published[@]}"; do
    cp -n LICENSE "$folder/" # as the go command does for a module without one
    for other in "" "${published[@]}"; do
      go -C "$folder" mod edit -dropreplace "$module${other:+/$other}"
      grep -q "^[[:space:]]*$module${other:+/$other} v" "$folder/go.mod" || continue
      go -C "$folder" mod edit -require "$module${other:+/$other}@$version"
    done
  done
}

# offer puts a module into the proxy, as it is at HEAD.
offer() { "$work/modproxy" "$proxy" "$clone" "$module${1:+/$1}" "$version" "$1"; }

commit() { git add -A && git -c user.name=release -c user.email=release@invalid commit -q "$@"; }

# offer_all fills the proxy. The sums of a module's requirements can be known only when
# those are in it.
offer_all() {
  commit -m "Release $version"
  offer ""
  local folder
  for folder in "${published[@]}"; do
    step "$module/$folder"
    (cd "$folder" && from_proxy go mod tidy)
    commit --amend --no-edit
    offer "$folder"
  done
}

tag_all() {
  local folder
  git tag "$version"
  for folder in "${published[@]}"; do git tag "$folder/$version"; done
}

# from_proxy runs a command with a module cache of its own, so that nothing of an earlier
# run is taken for this one. What others have published comes from where it always does.
from_proxy() {
  GOPROXY="file://$proxy,file://$cache/cache/download,$(go env GOPROXY)" GOMODCACHE=$work/cache \
    GONOSUMDB=$module GOFLAGS=-modcacherw GOWORK=off "$@"
}

prove() {
  local stranger=$work/stranger
  mkdir "$stranger" "$stranger/servers" "$work/bin"
  cd "$stranger"
  step "a stranger requires all, and runs the README's program"
  awk '/^package main$/ {on = 1} /^```$/ {if (on) exit} on' "$clone/README.md" >main.go
  cp "$clone/ci/readme_test.go.txt" main_test.go
  cp "$clone/ci/stranger.go.txt" servers/main.go
  go mod init stranger.example/app 2>/dev/null
  local folder all=("$module@$version")
  for folder in "${published[@]}"; do all+=("$module/$folder@$version"); done
  from_proxy go get "${all[@]}"
  from_proxy go mod tidy
  ! grep -q '^replace' go.mod || fail "the stranger's go.mod has a replace"
  from_proxy go vet ./...
  from_proxy go test -count=1 ./...
  from_proxy go run ./servers
  step "and installs the commands"
  for folder in cmd/sealed cmd/sealed-servers; do
    GOBIN=$work/bin from_proxy go install "$module/$folder@$version"
    "$work/bin/${folder##*/}" -h >"$work/usage" 2>&1
    grep -qi usage "$work/usage" || fail "$folder -h: $(cat "$work/usage")"
  done
  cd "$clone"
}

keep=
[ "${1:-}" != -keep ] || { keep=1; shift; }
[ "${1:-}" != -h ] && [ "${1:-}" != --help ] || { usage; exit; }
[ $# = 2 ] || { usage >&2; exit 2; }
module=$1 version=$2
check_arguments

work=$(mktemp -d)
trap '[ -n "$keep" ] && [ -n "${proved:-}" ] || rm -rf "$work"' EXIT
proxy=$work/proxy clone=$work/clone cache=$(go env GOMODCACHE)
go -C ci/modproxy build -o "$work/modproxy" .
git clone -q --no-tags . "$clone"
cd "$clone"
rename
require_each_other
offer_all
tag_all
prove
proved=1
step "tags: $(git tag | xargs)"
[ -z "$keep" ] || printf 'To publish it:\n  git -C %s push URL HEAD:main %s\n' "$clone" "$(git tag | xargs)"
