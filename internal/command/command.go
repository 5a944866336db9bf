// Package command is the command sealed: with key files alone, or with servers.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

const usage = `Usage: sealed COMMAND

  sealed key                        print a new key
  sealed keys init FILE             make a key file, with the first key
  sealed keys list FILE             list the keys of a key file
  sealed keys rotate FILE           add a key, which seals after a lead
  sealed keys revoke FILE ID...     mark keys as compromised: they never open again
  sealed keys prune FILE            drop keys that no session can need any more
  sealed keys backup FILE COPY      copy the document, sealed as it is
  sealed keys restore FILE COPY     put a copy into a store that is empty
  sealed revocations list URL       list what was revoked
  sealed revocations revoke URL ID  end a session
  sealed revocations revoke -subject NAME URL     end all that somebody has
  sealed revocations backup|restore URL COPY      keep a copy of the list
  sealed inspect                    say what is in a cookie, or why it does not open

"sealed COMMAND -h" tells more. A key file is one of the package keystore; its
wrapping key comes from SESSION_WRAPPING_KEY, or from the file of -wrapping. Built as
sealed-servers, the command takes the URL of a server in place of a file, such as
redis://host:6379/0 or postgres://user@host/database; a password comes from the
environment, as REDIS_PASSWORD or PGPASSWORD.

The exit code is 0, or 1 if something failed or a cookie gives no session, or 2
if the command line was not understood.
`

// A program is one run of the command.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	servers        Servers // nil for key files alone
}

// A Server is what is on one: keys, and revocations.
type Server interface {
	keystore.Store
	revoke.Log
}

// Servers connects to a server by its URL, in which there is no password.
type Servers func(ctx context.Context, url *url.URL) (Server, func(), error)

// errUsage says that the command line was not understood; the message was given.
var errUsage = errors.New("usage")

// errRefused says that a cookie gives no session; the output says why.
var errRefused = errors.New("refused")

// Main runs the command, and returns its exit code.
func Main(servers Servers) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second ^C ends a program that the first could not
	p := &program{os.Stdin, os.Stdout, os.Stderr, os.Getenv, servers}
	switch err := p.run(ctx, os.Args[1:]); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errRefused):
		return 1
	default:
		fmt.Fprintln(p.stderr, p.named("sealed:"), err)
		return 1
	}
	return 0
}

func (p *program) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(p.stderr, p.named(usage))
		return errUsage
	}
	for _, arg := range args {
		if strings.Contains(arg, "sealed-key-1-") {
			return p.misused("a key does not belong on the command line: others can see it there, and the shell may have kept it; make a new one")
		}
	}
	switch args[0] {
	case "key":
		return p.key(args[1:])
	case "keys":
		return p.keys(ctx, args[1:])
	case "revocations":
		return p.revocations(ctx, args[1:])
	case "inspect":
		return p.inspect(ctx, args[1:])
	case "help", "-h", "-help", "--help":
		fmt.Fprint(p.stdout, p.named(usage))
		return nil
	}
	return p.misused("no command %q; there are key, keys, revocations and inspect", args[0])
}

// parse parses a command's flags, which may stand before and behind the other
// arguments, and returns those. Help goes to standard output.
func (p *program) parse(f *flag.FlagSet, help string, args []string) (rest []string, err error) {
	f.SetOutput(io.Discard)
	for {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(p.stdout, p.named(help))
			f.SetOutput(p.stdout)
			f.PrintDefaults()
			return nil, err
		}
		if err != nil {
			return nil, p.misused("%v", err)
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// misused complains about the command line.
func (p *program) misused(format string, args ...any) error {
	fmt.Fprint(p.stderr, p.named("sealed: "+fmt.Sprintf(format, args...)+"\nRun sealed -h for help.\n"))
	return errUsage
}

// ownName finds the name of the command where it stands for this program.
var ownName = regexp.MustCompile(`\bsealed(:| (?:COMMAND|keys?|revocations|inspect|-h)\b)`)

// named returns a text with the name of this program, and without what it cannot do.
func (p *program) named(text string) string {
	if p.servers != nil {
		return ownName.ReplaceAllString(text, "sealed-servers$1")
	}
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  sealed revocations") }), "")
}

const keyHelp = `Usage: sealed key

Prints a new random key, for SESSION_KEYS, SESSION_WRAPPING_KEY or a file. Keep it
as you keep a password, and out of version control:

  (umask 077; sealed key > wrapping.key)

`

func (p *program) key(args []string) error {
	rest, err := p.parse(flag.NewFlagSet("key", flag.ContinueOnError), keyHelp, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return p.misused("sealed key takes no arguments")
	}
	_, err = fmt.Fprintln(p.stdout, sealed.GenerateKey().Text())
	return err
}
