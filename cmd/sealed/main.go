// Command sealed makes keys, looks after key files, and looks into cookies.
//
//	sealed key
//	sealed keys init|list|rotate|revoke|prune|backup|restore FILE
//	sealed inspect < COOKIE
//
// Run it with -h for help. Secrets come from files, the environment and standard
// input, never from the command line, which other users of a machine can see. The
// command sealed-servers beside it does the same on Redis and PostgreSQL, and looks
// after revocations.
package main

import (
	"os"

	"example.com/sealed/internal/command"
)

func main() { os.Exit(command.Main(nil)) }
