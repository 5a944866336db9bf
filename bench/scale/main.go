// Scale says what sessions in cookies, and sessions in a store, take at a site of some
// size: in memory, in traffic between instances and store, in questions to the store and
// in processor time. On paper, and by simulating each login. Every constant is a figure
// of results.json, which the program in the folder above has measured.
//
//	go run ./scale -users 1e6 -logins 1e6 -logouts 3e5 -lifetime 24h -instances 4
//	go run ./scale -page ../docs/scale.md     # the page with its two sites
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/sealed/bench/results"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	s := site{name: "this site"}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.Float64Var(&s.users, "users", 1e6, "how many `people` visit in a day")
	flags.Float64Var(&s.logins, "logins", 1e6, "how many sessions begin in a day")
	flags.Float64Var(&s.logouts, "logouts", 3e5, "how many of a day's sessions are logged out, some time")
	flags.DurationVar(&s.lifetime, "lifetime", 24*time.Hour, "of a session")
	flags.DurationVar(&s.stay, "stay", time.Hour, "from login to logout, on average")
	flags.IntVar(&s.instances, "instances", 4, "how many processes serve")
	flags.Float64Var(&s.requests, "requests", 50, "of one visitor in a day that read the session")
	flags.Float64Var(&s.changes, "changes", 0.1, "the `share` of them that change it")
	file := flags.String("results", "results.json", "the figures of a run")
	seed := flags.Uint64("seed", 1, "of the simulation")
	page := flags.String("page", "", "write docs/scale.md, about two sites, to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := results.Read(*file)
	if err != nil {
		return err
	}
	if *page != "" {
		text, err := makePage(r, *seed)
		if err != nil {
			return err
		}
		return os.WriteFile(*page, text, 0o666)
	}
	a, err := assess(s, r, *seed)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, a.Table()+"\n")
	return err
}
