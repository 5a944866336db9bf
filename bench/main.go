// Bench compares sealed cookies with sessions that live in a store: the same
// application, served with each of them through its own public API, measured in one
// run. It starts the stores and a process for each contender, and writes results.json,
// and from that docs/benchmarks.md with its charts, docs/scale.md and a section of the
// README.
//
//	go run .                          # all of it, about half an hour
//	go run . -quick                   # to see that it works: its figures are worth nothing
//	go run . -only process,sizes      # some of it, on the terminal only
//	go run . -render                  # the page and the charts once more, from results.json
//	go run ./cmd/scale                # what the figures mean for millions of users
//
// It needs Node.js with npm, and redis-server and PostgreSQL on the machine, or their addresses, and runs
// best on a machine with nothing else to do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

type options struct {
	quick, render   bool
	only            string
	seed            uint64
	redis, postgres string
	out             string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == serveArgument {
		exit(serve(os.Stdin, os.Stdout))
	}
	var o options
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	flag.BoolVar(&o.quick, "quick", false, "see that everything works, in a minute; its figures are worth nothing, and are not written without -out")
	flag.BoolVar(&o.render, "render", false, "measure nothing: write the page and the charts from results.json")
	flag.StringVar(&o.only, "only", "", "measure only these `parts`, and write nothing: "+strings.Join(names, ","))
	flag.Uint64Var(&o.seed, "seed", 1, "the order of the contenders in each round follows from this `number`")
	flag.StringVar(&o.redis, "redis", "", "`address` of a Redis to use, which must be empty; by default one is started")
	flag.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL database to use, without tables sessions and node_sessions; by default one is started")
	flag.StringVar(&o.out, "out", "", "write everything into this `folder`; by default results.json here, the pages in ../docs and a section of ../README.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	exit(bench(ctx, o, os.Stdout, os.Stderr))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench does what the options say.
func bench(ctx context.Context, o options, out io.Writer, status *os.File) error {
	places := repository
	if o.out != "" {
		places = inFolder(o.out)
	}
	if o.render {
		r, err := results.Read(places.results)
		if err != nil {
			return err
		}
		return publish(r, places)
	}
	if o.out != "" {
		if err := os.MkdirAll(o.out, 0o777); err != nil {
			return err
		}
	}
	only := slices.DeleteFunc(strings.Split(o.only, ","), func(name string) bool { return name == "" })
	r, err := measure(ctx, o, only, status)
	if r != nil { // also what there is of a run that failed
		err = errors.Join(err, printTables(out, r))
	}
	if err != nil {
		return err
	}
	if len(only) > 0 || o.quick && o.out == "" {
		return nil
	}
	if err := r.Write(places.results); err != nil {
		return err
	}
	return publish(r, places)
}

// measure measures all parts, or only some.
func measure(ctx context.Context, o options, only []string, status *os.File) (*results.Results, error) {
	known := func(name string) bool {
		return slices.ContainsFunc(phases, func(p phase) bool { return p.name == name })
	}
	for _, name := range only {
		if !known(name) {
			return nil, fmt.Errorf("no part %q", name)
		}
	}
	progress := newProgress(status)
	defer progress.done()
	var measured *results.Results
	err := testserver.Guard(func(h *testserver.Host) error {
		r, err := newRun(ctx, h, o, progress)
		if err != nil {
			return err
		}
		if r.results.About, err = r.about(o); err != nil {
			return err
		}
		measured = r.results
		for _, p := range phases {
			if len(only) > 0 && !slices.Contains(only, p.name) {
				continue
			}
			if err := p.do(r); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		r.results.About.Took = time.Since(progress.start).Round(time.Second).String()
		return nil
	})
	if ctx.Err() != nil {
		err = errors.New("interrupted") // whatever that led to
	}
	return measured, err
}
