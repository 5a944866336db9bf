package command

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

// store opens what an argument names: a key file, or the keys on a server.
func (p *program) store(ctx context.Context, name string) (store keystore.Store, file string, done func(), err error) {
	if !strings.Contains(name, "://") {
		return keystore.NewFile(name), name, func() {}, nil
	}
	server, done, err := p.server(ctx, name)
	return server, "", done, err
}

// server connects to the server of a URL.
func (p *program) server(ctx context.Context, text string) (Server, func(), error) {
	if p.servers == nil {
		return nil, nil, errors.New("this is the command for key files: sealed-servers is the one for Redis and PostgreSQL")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, nil, p.misused("that is not the URL of a server")
	}
	if _, set := u.User.Password(); set {
		return nil, nil, p.misused("a password does not belong on the command line: others can see it there; set REDIS_PASSWORD or PGPASSWORD")
	}
	return p.servers(ctx, u)
}

// backup copies the document.
func (c *keyCommand) backup(ctx context.Context) error {
	document, _, err := c.store.Load(ctx)
	if err != nil {
		return err
	}
	if document == nil {
		return keystore.ErrEmpty
	}
	return c.p.writeCopy(c.copy, document)
}

// restore puts a copy of the document into an empty store.
func (c *keyCommand) restore(ctx context.Context) error {
	document, err := readPrivate(c.copy)
	if err != nil {
		return err
	}
	_, err = c.store.Save(ctx, document, "")
	if errors.Is(err, keystore.ErrConflict) {
		return errors.New("the store holds keys already")
	}
	if err == nil {
		_, err = fmt.Fprintln(c.p.stdout, "Restored. Revoke again what was revoked since that copy was made.")
	}
	return err
}

// writeCopy writes a file that is not there yet, for its owner only.
func (p *program) writeCopy(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Wrote %s, %d bytes.\n", name, len(b))
	return err
}

const revocationsHelp = `Usage: sealed revocations list|revoke|backup|restore URL

Looks after the revocations on a Redis or PostgreSQL server, which programs follow: they
see a change within seconds. It is part of sealed-servers.

  list URL                      what was revoked, and until when that is kept
  revoke URL ID...              end sessions, by their IDs
  revoke -subject NAME URL      end all sessions that somebody has now
  backup URL COPY               write all of it to a new file
  restore URL COPY              add what is in such a file

`

// copyHead begins a copy of the revocations; entries follow.
const copyHead = "sealed-revocations-1\n"

// forever is how long a revocation is kept that says no other: longer than any session.
const forever = 401 * 24 * time.Hour

func (p *program) revocations(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("revocations", flag.ContinueOnError)
	subject := f.String("subject", "", "revoke: whose sessions, in place of an ID")
	rest, err := p.parse(f, revocationsHelp, args)
	if err != nil {
		return err
	}
	commands := []string{"list", "revoke", "backup", "restore"}
	if len(rest) == 0 || !slices.Contains(commands, rest[0]) {
		return p.misused("sealed revocations needs a command: list, revoke, backup or restore")
	}
	name, want := rest[0], map[string]int{"list": 2, "backup": 3, "restore": 3}[rest[0]]
	switch {
	case name != "revoke" && (len(rest) != want || *subject != ""):
		return p.misused("sealed revocations %s takes other arguments: see -h", name)
	case name == "revoke" && (len(rest) < 2 || (len(rest) > 2) == (*subject != "")):
		return p.misused("sealed revocations revoke needs a URL, and either IDs or -subject")
	}
	log, done, err := p.server(ctx, rest[1])
	if err != nil {
		return err
	}
	defer done()
	switch name {
	case "revoke":
		return p.revokeThere(ctx, log, *subject, rest[2:])
	case "restore":
		return p.restoreRevocations(ctx, log, rest[2])
	}
	all, err := allRevocations(ctx, log)
	if err != nil {
		return err
	}
	if name == "list" {
		return p.listRevocations(all)
	}
	b := []byte(copyHead)
	for _, v := range all {
		if b, err = revoke.AppendEntry(b, v); err != nil {
			return err
		}
	}
	return p.writeCopy(rest[2], b)
}

// allRevocations reads a log to its end, each of its revocations once, less those that
// have expired.
func allRevocations(ctx context.Context, log revoke.Log) (all []sealed.Revocation, err error) {
	seen := map[sealed.Revocation]bool{}
	now := time.Now()
	for page := (revoke.Page{More: true}); page.More; {
		if page, err = log.Read(ctx, page.Cursor); err != nil {
			return nil, err
		}
		for _, v := range page.Revocations {
			v.Before, v.From, v.Until = v.Before.UTC(), v.From.UTC(), v.Until.UTC()
			if !seen[v] && v.Until.After(now) {
				seen[v] = true
				all = append(all, v)
			}
		}
	}
	return all, nil
}

func (p *program) listRevocations(all []sealed.Revocation) error {
	now := time.Now()
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT\tBEFORE\tKEPT UNTIL")
	for _, v := range all {
		if v.Subject != "" {
			fmt.Fprintf(table, "subject %q\t%s\t%s\n", v.Subject, when(v.Before, now), when(v.Until, now))
		} else {
			fmt.Fprintf(table, "session %s\t\t%s\n", v.ID, when(v.Until, now))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "%d %s.\n", len(all), plural(len(all), "revocation", "revocations"))
	return err
}

func (p *program) revokeThere(ctx context.Context, log revoke.Log, subject string, ids []string) error {
	now := time.Now()
	var all []sealed.Revocation
	if subject != "" {
		all = append(all, sealed.Revocation{Subject: subject, Before: now, Until: now.Add(forever)})
	}
	for _, text := range ids {
		id, err := sealed.ParseID(text)
		if err != nil || id == (sealed.ID{}) {
			return p.misused("a session ID has 32 hexadecimal digits, and is not zero")
		}
		all = append(all, sealed.Revocation{ID: id, Until: now.Add(forever)})
	}
	if err := log.Append(ctx, all); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.stdout, "Revoked. Programs refuse it when they next read the log, within seconds.")
	return err
}

func (p *program) restoreRevocations(ctx context.Context, log revoke.Log, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return err
	}
	entries, ok := bytes.CutPrefix(b.Bytes(), []byte(copyHead))
	if !ok {
		return fmt.Errorf("%s is no copy of revocations", name)
	}
	all, err := revoke.ParseEntries(nil, entries)
	if err != nil {
		return err
	}
	total := len(all)
	for len(all) > 0 {
		n := min(len(all), 1000)
		if err := log.Append(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	_, err = fmt.Fprintf(p.stdout, "Added %d %s.\n", total, plural(total, "revocation", "revocations"))
	return err
}
