// Scale says what sessions in cookies, and sessions in a store, take at a site of some
// size: in memory, in traffic between instances and store, in questions to the store and
// in processor time. On paper, and by simulating each login. Every constant is a figure
// of results.json, which the benchmark has measured; docs/scale.md shows two such sites.
//
//	go run ./cmd/scale -users 1e6 -logins 1e6 -logouts 3e5 -lifetime 24h -instances 4
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/sealed/bench/results"
	"example.com/sealed/bench/scale"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	var s scale.Site
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.Float64Var(&s.Users, "users", 1e6, "how many `people` visit in a day")
	flags.Float64Var(&s.Logins, "logins", 1e6, "how many sessions begin in a day")
	flags.Float64Var(&s.Logouts, "logouts", 3e5, "how many of a day's sessions are logged out, some time")
	flags.DurationVar(&s.Lifetime, "lifetime", 24*time.Hour, "of a session")
	flags.DurationVar(&s.Stay, "stay", time.Hour, "from login to logout, on average")
	flags.IntVar(&s.Instances, "instances", 4, "how many processes serve")
	flags.Float64Var(&s.Requests, "requests", 50, "of one visitor in a day that read the session")
	flags.Float64Var(&s.Changes, "changes", 0.1, "the `share` of them that change it")
	file := flags.String("results", "results.json", "the figures of a run")
	seed := flags.Uint64("seed", 1, "of the simulation")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := results.Read(*file)
	if err != nil {
		return err
	}
	a, err := scale.Assess(s, r, *seed)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, a.Table()+"\n")
	return err
}
