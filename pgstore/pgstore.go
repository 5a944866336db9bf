// Package pgstore keeps revocations and session keys in PostgreSQL 13 or newer. One
// [Store] is a [revoke.Log] for [revoke.Follow] and a [keystore.Store] for
// [keystore.Open]:
//
//	pool, err := pgxpool.New(ctx, "postgres://...")
//	store, err := pgstore.New(pool, pgstore.Config{})
//	err = store.Migrate(ctx)
//	revocations, err := revoke.Follow(store, revoke.Policy{})
//	keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{CreateIfEmpty: true})
//
// No request asks the database: each instance follows it from memory.
// [Store.RevokeTx] revokes in a transaction of the caller's, such as that which
// changes a password.
//
// An instance needs two connections: one of the pool's at least, and one that listens for
// hints. Reading writes nothing, so what a revocation costs does not grow with the
// instances. Migrate needs a role that may make tables; all else one that may, of these,
// select, insert, update and delete in PREFIX_revocations, use PREFIX_revocations_ord,
// select and update in PREFIX_log, and select, insert and update in PREFIX_keys.
//
// # What the server must be configured to
//
//   - What was acknowledged survives a crash of the server: where synchronous_commit is
//     off, the package's own transactions have it on.
//   - With synchronous_standby_names, it survives a failover to one of those. A
//     failover to another standby loses what that lacks. Synchronous standbys also have
//     instances notice that they read a primary which was replaced while it was cut off:
//     one of them writes a heartbeat each second, and without one that was acknowledged
//     they are stale. Without them nothing tells: the old primary must be fenced off.
//   - The connection must go to the primary. Through a pooler that shares connections
//     between transactions, as pgbouncer does, connect with default_query_exec_mode=exec;
//     hints do not come then (LISTEN), and an instance hears of a revocation with its
//     next poll.
//   - Where [Store.RevokeTx] is used, idle_in_transaction_session_timeout should bound
//     a transaction whose client has gone without a word: until the server ends it,
//     it keeps its locks, and rows that were deleted since are not cleared away.
//     The package's own transactions do not wait for their client.
//
// What a server loses is found out, and instances that know it give it back. It is
// lost for good only if all of them have stopped by then. Instances do not notice rows
// that somebody has deleted by hand.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

// Config is optional. The zero Config has the defaults.
type Config struct {
	// Prefix begins the names of the tables, and is the channel of the hints.
	// Lower-case letters, digits and underscores, at most 30, and no digit first. Default "sealed".
	Prefix string
}

// A Store is a [revoke.Log] and a [keystore.Store] in PostgreSQL. Its methods may
// be called concurrently.
type Store struct {
	pool    *pgxpool.Pool
	prefix  string
	beating atomic.Bool // a heartbeat is under way

	hints    sync.Mutex // held by the one that listens
	listener *pgx.Conn
	closed   bool
}

var (
	_ revoke.Log       = (*Store)(nil)
	_ revoke.Inspector = (*Store)(nil)
	_ keystore.Store   = (*Store)(nil)
)

var prefixForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,29}$`)

// New returns a store on a pool, which stays the caller's. It makes no connection.
func New(pool *pgxpool.Pool, config Config) (*Store, error) {
	if config.Prefix == "" {
		config.Prefix = "sealed"
	}
	if !prefixForm.MatchString(config.Prefix) {
		return nil, fmt.Errorf("pgstore: prefix %.40q: it takes lower-case letters, digits and underscores, at most 30, and does not begin with a digit", config.Prefix)
	}
	if pool == nil {
		return nil, errors.New("pgstore: no pool")
	}
	return &Store{pool: pool, prefix: config.Prefix}, nil
}

// Close ends the connection that waits for hints, if there is one. The pool stays
// open. Close the replica first: while it follows, Close waits for the hint that it waits for.
func (s *Store) Close() {
	s.hints.Lock()
	defer s.hints.Unlock()
	s.closed = true
	s.hangUp()
}

// tablesVersion is that of the tables. A program of another one does not touch them.
const tablesVersion = 1

func errVersion(version int) error {
	return fmt.Errorf("pgstore: %w (the tables have the version %d)", revoke.ErrNewer, version)
}

// The tables. xid is the transaction that has written the row: see cursor. ord tells rows
// of one transaction apart, and mark a row from another that was given the numbers of one
// which was lost. An entry is as revoke.AppendEntry writes it.
const schema = `
CREATE SEQUENCE IF NOT EXISTS %[1]s_revocations_ord;
CREATE TABLE IF NOT EXISTS %[1]s_revocations (
	xid   xid8        NOT NULL DEFAULT pg_current_xact_id(),
	ord   bigint      NOT NULL DEFAULT nextval('%[1]s_revocations_ord'),
	mark  bigint      NOT NULL,
	until timestamptz NOT NULL,
	entry bytea       NOT NULL,
	PRIMARY KEY (xid, ord)
);
CREATE INDEX IF NOT EXISTS %[1]s_revocations_until ON %[1]s_revocations (until);
CREATE TABLE IF NOT EXISTS %[1]s_keys (
	one      boolean PRIMARY KEY DEFAULT true CHECK (one),
	document bytea   NOT NULL,
	version  text    NOT NULL
);
CREATE TABLE IF NOT EXISTS %[1]s_log (
	one     boolean     PRIMARY KEY DEFAULT true CHECK (one),
	version int         NOT NULL,
	begun   timestamptz NOT NULL DEFAULT now(),
	proved  timestamptz
);
INSERT INTO %[1]s_log (version) VALUES (1) ON CONFLICT DO NOTHING;`

// Migrate makes the tables, unless they are there, and takes over rows that come
// from another server, by pg_dump. It may be run by every instance, at once, at
// every start, and by a role of its own: only it needs to own the tables.
func (s *Store) Migrate(ctx context.Context) error {
	var there, foreign bool
	err := s.pool.QueryRow(ctx, `SELECT bool_and(to_regclass($1::text || name) IS NOT NULL) FROM unnest(
		ARRAY['_revocations', '_revocations_ord', '_revocations_until', '_keys', '_log']) AS name`, s.prefix).Scan(&there)
	if err == nil && !there { // DDL waits for every transaction that has written, and others for it
		err = s.change(ctx, s.pool, s.sql(schema))
	}
	if err == nil {
		err = s.pool.QueryRow(ctx, s.sql(foreignRows)).Scan(&foreign)
	}
	if err == nil && foreign {
		err = s.change(ctx, s.pool, s.sql(`UPDATE %[1]s_revocations SET xid = pg_current_xact_id() WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())`))
	}
	if err != nil {
		return wrapped("migrating", err)
	}
	return nil
}

// foreignRows asks for rows of transactions that this server has not had: they come
// from another, and would be new to each reader for ever.
const foreignRows = "SELECT EXISTS (SELECT FROM %[1]s_revocations WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))"

// change changes the tables, while others that would are kept out. The statements
// have no arguments, so that pgx sends them as one simple query, which the server
// takes for one transaction.
//
// Each transaction of this package is one message. If the network broke down between
// two, the server would keep the locks, and others waiting for them, until it hears
// that the client has gone, which by its default takes two hours.
func (s *Store) change(ctx context.Context, q querier, sql string) error {
	_, err := q.Exec(ctx, s.sql("SELECT pg_advisory_xact_lock(hashtextextended('%s migration', 0));")+sql)
	return err
}

// sql fills in the prefix, of which New has made sure that it is harmless.
func (s *Store) sql(format string) string { return fmt.Sprintf(format, s.prefix) }

func wrapped(what string, err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "26000" || e.Code == "42P05") { // prepared statements that are not there, or are already
		return fmt.Errorf("pgstore: %s: a pooler shares connections between transactions: connect with default_query_exec_mode=exec: %w", what, err)
	}
	return fmt.Errorf("pgstore: %s: %w", what, err)
}
