package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

const keysHelp = `Usage: sealed keys init|list|rotate|revoke|prune|backup|restore FILE

Looks after a key file of the package keystore. Programs that use the file see a
change with their next refresh, within a minute by default; they also rotate and
prune by themselves. The document in the file is sealed under a wrapping key, from
SESSION_WRAPPING_KEY or from the file of -wrapping: several keys separated by white
space or commas, of which the first seals.

  init FILE             make the file, with the first key
  list FILE             each key's ID, state and times, and no secret
  rotate FILE           add a key, which seals after -lead
  revoke FILE ID...     mark keys as compromised: nothing sealed under them opens again
  revoke -all FILE      all of them, for when the file and its wrapping key are known
  prune FILE            drop keys whose successor has sealed for -retain
  backup FILE COPY      write the document, sealed as it is, to a new file
  restore FILE COPY     put it into a store that is empty. Keys that were revoked since
                        open again: revoke them before the first program starts

In place of FILE, sealed-servers takes the URL of a Redis or PostgreSQL server.

`

// keyCommand is what the flags of "sealed keys" say.
type keyCommand struct {
	p            *program
	name         string
	store        keystore.Store
	file         string // "" on a server
	copy         string // of backup and restore
	wrapping     []sealed.Key
	ids          []string
	all          bool
	lead, retain time.Duration
}

func (p *program) keys(ctx context.Context, args []string) error {
	c := keyCommand{p: p, lead: 24 * time.Hour, retain: 401 * 24 * time.Hour}
	f := flag.NewFlagSet("keys", flag.ContinueOnError)
	wrappingFile := f.String("wrapping", "", "`file` with the wrapping key, in place of SESSION_WRAPPING_KEY")
	f.BoolVar(&c.all, "all", false, "revoke: all keys")
	f.Var((*duration)(&c.lead), "lead", "rotate: `time` until the key seals; every program must have read it by then")
	f.Var((*duration)(&c.retain), "retain", "prune: `time` that the longest session lasts")
	rest, err := p.parse(f, keysHelp, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return p.misused("sealed keys needs a command: init, list, rotate, revoke, prune, backup or restore")
	}
	if !slices.Contains([]string{"init", "list", "rotate", "revoke", "prune", "backup", "restore"}, rest[0]) {
		return p.misused("no command \"keys %s\"; there are init, list, rotate, revoke, prune, backup and restore", rest[0])
	}
	if len(rest) < 2 {
		return p.misused("sealed keys %s needs a key file", rest[0])
	}
	c.name, c.ids = rest[0], rest[2:]
	if c.name == "backup" || c.name == "restore" {
		if len(c.ids) != 1 {
			return p.misused("sealed keys %s needs a key file, and the copy", c.name)
		}
		c.copy, c.ids = c.ids[0], nil
	}
	var done func()
	if c.store, c.file, done, err = p.store(ctx, rest[1]); err != nil {
		return err
	}
	defer done()
	if c.name == "revoke" && len(c.ids) == 0 && !c.all {
		return p.misused("sealed keys revoke needs the IDs of keys, or -all")
	}
	if c.name != "revoke" && len(c.ids) > 0 {
		return p.misused("sealed keys %s takes one file, and nothing more", c.name)
	}
	var stray string
	f.Visit(func(x *flag.Flag) {
		if of, ok := map[string]string{"all": "revoke", "lead": "rotate", "retain": "prune"}[x.Name]; ok && of != c.name {
			stray = x.Name
		}
	})
	if stray != "" {
		return p.misused("-%s does not go with %s", stray, c.name)
	}
	switch c.name { // which need no wrapping key
	case "backup":
		return c.backup(ctx)
	case "restore":
		return c.restore(ctx)
	}
	if c.wrapping, err = p.wrapping(*wrappingFile); err != nil {
		return err
	}
	switch c.name {
	case "init":
		return c.init(ctx)
	case "rotate":
		return c.rotate(ctx)
	case "revoke":
		return c.revoke(ctx)
	case "prune":
		return c.prune(ctx)
	}
	return c.list(ctx)
}

// wrapping reads the wrapping keys from a file, or from the environment.
func (p *program) wrapping(file string) ([]sealed.Key, error) {
	if file == "" {
		text := p.getenv("SESSION_WRAPPING_KEY")
		if text == "" {
			return nil, errors.New("the keys are sealed: set SESSION_WRAPPING_KEY, which \"sealed key\" makes once, or name a file with -wrapping")
		}
		return keystore.ParseWrapping(text)
	}
	text, err := readPrivate(file)
	if err != nil {
		return nil, err
	}
	return keystore.ParseWrapping(string(text))
}

// readPrivate reads a file that holds secrets, and refuses one that others can
// read. It may be a pipe, as of a shell's <(command).
func readPrivate(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o, so others can get at the keys: run chmod 600 on it", file, mode.Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("%s is longer than any file of keys", file)
	}
	return text, err
}

func (c *keyCommand) read(ctx context.Context) (keystore.Document, error) {
	if c.file == "" {
		return keystore.Read(ctx, c.store, c.wrapping)
	}
	return readDocument(ctx, c.file, c.wrapping)
}

// readDocument reads a key file, and says so if there is none.
func readDocument(ctx context.Context, file string, wrapping []sealed.Key) (keystore.Document, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return keystore.Document{}, fmt.Errorf("there is no file %s", file)
	}
	return keystore.Read(ctx, keystore.NewFile(file), wrapping)
}

func (c *keyCommand) list(ctx context.Context) error {
	d, err := c.read(ctx)
	if err != nil {
		return err
	}
	states := statesOf(d.Keys)
	now := time.Now()
	table := tabwriter.NewWriter(c.p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tSTATE\tCREATED\tSEALS FROM")
	for _, k := range slices.Backward(d.Keys) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", k.Key.ID(), states[k.Key.ID()], when(k.Created, now), when(k.Activates, now))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.p.stdout, "Revision %d, sealed under the wrapping key %s.\n", d.Revision, d.WrappingKeyID)
	return err
}

// statesOf returns the states of keys by ID.
func statesOf(keys []sealed.KeyEntry) map[string]sealed.KeyState {
	states := map[string]sealed.KeyState{}
	ring, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace(keys); err != nil { // all are revoked
		for _, k := range keys {
			states[k.Key.ID()] = sealed.KeyRevoked
		}
	}
	for _, k := range ring.Keys() {
		states[k.ID] = k.State
	}
	return states
}

func (c *keyCommand) init(ctx context.Context) error {
	id, err := keystore.Init(ctx, c.store, c.wrapping)
	if err == nil {
		_, err = fmt.Fprintf(c.p.stdout, "Made %s, which seals from now on.\n", id)
	}
	return err
}

func (c *keyCommand) rotate(ctx context.Context) error {
	id, err := keystore.Rotate(ctx, c.store, c.wrapping, c.lead)
	if err != nil {
		return err
	}
	d, err := c.read(ctx)
	if err != nil {
		return err
	}
	for _, k := range d.Keys {
		if k.Key.ID() == id {
			_, err = fmt.Fprintf(c.p.stdout, "Added %s, which seals from %s.\n", id, when(k.Activates, time.Now()))
		}
	}
	return err
}

func (c *keyCommand) revoke(ctx context.Context) error {
	before, err := c.read(ctx)
	if err != nil {
		return err
	}
	if c.all {
		for _, k := range before.Keys {
			if !k.Revoked && !slices.Contains(c.ids, k.Key.ID()) {
				c.ids = append(c.ids, k.Key.ID())
			}
		}
	}
	if err := keystore.Revoke(ctx, c.store, c.wrapping, c.ids...); err != nil {
		return err
	}
	after, err := c.read(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.p.stdout, "Revoked %s. Sessions sealed under %s end as programs refresh.\n", strings.Join(c.ids, ", "), plural(len(c.ids), "it", "them"))
	for _, k := range after.Keys {
		if !slices.ContainsFunc(before.Keys, func(x sealed.KeyEntry) bool { return x.Key.ID() == k.Key.ID() }) {
			fmt.Fprintf(c.p.stdout, "Added %s, which seals at once in the place of what was revoked.\n", k.Key.ID())
		}
	}
	return nil
}

func (c *keyCommand) prune(ctx context.Context) error {
	before, err := c.read(ctx)
	if err != nil {
		return err
	}
	if err := keystore.Prune(ctx, c.store, c.wrapping, c.retain); err != nil {
		return err
	}
	after, err := c.read(ctx)
	if err != nil {
		return err
	}
	var dropped []string
	for _, k := range before.Keys {
		if !slices.ContainsFunc(after.Keys, func(x sealed.KeyEntry) bool { return x.Key.ID() == k.Key.ID() }) {
			dropped = append(dropped, k.Key.ID())
		}
	}
	if len(dropped) == 0 {
		_, err = fmt.Fprintln(c.p.stdout, "Nothing to drop.")
		return err
	}
	_, err = fmt.Fprintf(c.p.stdout, "Dropped %s.\n", strings.Join(dropped, ", "))
	return err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// when writes a time for people: local, and how long ago or from now.
func when(t, now time.Time) string {
	text := t.Local().Format("2006-01-02 15:04:05 MST")
	switch d := t.Sub(now).Round(time.Second); {
	case d >= time.Second:
		return text + " (in " + rough(d) + ")"
	case d <= -time.Second:
		return text + " (" + rough(-d) + " ago)"
	}
	return text + " (now)"
}

// rough writes a duration in its largest unit, rounded down.
func rough(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}} {
		n := int(d / unit.size)
		switch {
		case n == 0:
			continue
		case unit.name == "day" && n > 1:
			return fmt.Sprint(n, " days")
		}
		return fmt.Sprint(n, " ", unit.name)
	}
	return "0 s"
}

// duration is a flag that takes days as well: "30d", "90m".
type duration time.Duration

func (d *duration) String() string {
	t := time.Duration(*d)
	if t != 0 && t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	return t.String()
}

func (d *duration) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errors.New("not a number of days")
		}
		*d = duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	t, err := time.ParseDuration(text)
	if err != nil {
		return errors.New(`not a time like "90m", "24h" or "30d"`)
	}
	*d = duration(t)
	return nil
}
