package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"example.com/sealed/bench/results"
)

// about gathers where, when and with what the figures are made.
func (r *run) about(o options) (results.About, error) {
	a := results.About{
		Date: time.Now().UTC().Format(time.DateOnly), Command: "go run .", Seed: o.seed, Rounds: r.rounds,
		CPU: cpu(), Cores: runtime.NumCPU(), System: system(), Go: runtime.Version(), Packages: packages(),
	}
	if o.quick {
		a.Command += " -quick"
	}
	if o.redis != "" {
		a.Command += " -redis ADDRESS"
	}
	if o.postgres != "" {
		a.Command += " -postgres URL"
	}
	a.OwnStores = o.redis == "" && o.postgres == ""
	info, err := r.redis.Info(r.ctx, "server").Result()
	if err != nil {
		return a, err
	}
	var postgres string
	if err := r.postgres.QueryRow(r.ctx, "SHOW server_version").Scan(&postgres); err != nil {
		return a, err
	}
	redis := regexp.MustCompile(`(?m)^redis_version:(\S+)`).FindStringSubmatch(info)
	if redis == nil {
		return a, fmt.Errorf("INFO server has no version: %q", info)
	}
	a.Servers = []results.Version{{Name: "Redis", Version: redis[1]}, {Name: "PostgreSQL", Version: postgres}}
	return a, r.aboutNode(&a)
}

// aboutNode adds what the contenders of Node are.
func (r *run) aboutNode(a *results.About) error {
	version, err := exec.CommandContext(r.ctx, "node", "--version").Output()
	if err != nil {
		return fmt.Errorf("node --version: %w", err)
	}
	a.Servers = append(a.Servers, results.Version{Name: "Node", Version: strings.TrimSpace(string(version))})
	text, err := os.ReadFile("node/package.json")
	if err != nil {
		return err
	}
	var required struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &required); err != nil {
		return fmt.Errorf("node/package.json: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(required.Dependencies)) {
		a.Packages = append(a.Packages, results.Version{Name: name, Version: required.Dependencies[name]})
	}
	return nil
}

// cpu returns the processor's name, as far as Linux tells.
func cpu() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text)
	if found == nil {
		return "unknown (" + runtime.GOARCH + ")"
	}
	return string(found[1])
}

func system() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(runtime.GOOS + "/" + runtime.GOARCH + " " + string(text))
}

// compared are the packages whose versions matter.
var compared = []string{
	"github.com/alexedwards/scs/v2", "github.com/alexedwards/scs/goredisstore", "github.com/alexedwards/scs/pgxstore",
	"github.com/gorilla/sessions", "github.com/gorilla/securecookie", "github.com/redis/go-redis/v9",
	"github.com/jackc/pgx/v5", "github.com/fxamacker/cbor/v2", "golang.org/x/crypto", "github.com/valyala/fasthttp",
}

// packages returns the versions of what is compared, as built in.
func packages() (versions []results.Version) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if slices.Contains(compared, m.Path) {
			versions = append(versions, results.Version{Name: m.Path, Version: m.Version})
		}
	}
	slices.SortFunc(versions, func(a, b results.Version) int { return cmp.Compare(a.Name, b.Name) })
	return versions
}
