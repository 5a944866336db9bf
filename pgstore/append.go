package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/sealed"
)

// week is what a partition holds.
const week = 7 * 24 * time.Hour

func weekOf(t time.Time) int64 { return t.Unix() / int64(week/time.Second) }

func startOf(week int64) time.Time { return time.Unix(week*int64(7*24*3600), 0).UTC() }

// Append implements [revoke.Log].
func (s *Store) Append(ctx context.Context, revocations []sealed.Revocation) error {
	if len(revocations) == 0 {
		return ctx.Err()
	}
	err := s.append(ctx, s.pool, revocations)
	if noPartition(err) { // one that was known has been dropped
		s.forgetPartitions()
		err = s.append(ctx, s.pool, revocations)
	}
	return err
}

// RevokeTx revokes within a transaction of the caller's: when that commits, the
// sessions are refused on every instance within the bound of its replica, and if it
// does not, nothing has happened. On the caller's own instance too it takes until
// its replica has read it: Refresh waits for that.
//
// Exactly one of ID and Subject is set in each revocation.
func (s *Store) RevokeTx(ctx context.Context, tx pgx.Tx, revocations ...sealed.Revocation) error {
	for _, v := range revocations {
		if (v.ID == sealed.ID{}) == (v.Subject == "") {
			return errors.New("pgstore: a revocation has either an ID or a subject")
		}
	}
	if len(revocations) == 0 {
		return nil
	}
	if err := s.touch(ctx, tx, revocations); err != nil {
		return wrapped("appending", err)
	}
	return s.append(ctx, tx, revocations)
}

// touch makes a transaction see the partitions that it needs. One that has the table
// in use already does not hear of partitions that come later, until it uses
// something new: a failure for want of one would be the end of it.
func (s *Store) touch(ctx context.Context, tx pgx.Tx, revocations []sealed.Revocation) error {
	weeks := map[int64]bool{}
	for _, v := range revocations {
		weeks[weekOf(ceil(v.Until))] = true
	}
	for w := range weeks {
		s.mu.Lock()
		delete(s.partitions, w) // somebody may have dropped it
		s.mu.Unlock()
		if err := s.ensure(ctx, tx, []time.Time{startOf(w)}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT FROM "+s.partition(w)+" LIMIT 0"); err != nil {
			return err
		}
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// append writes rows, for which there must be partitions: in a transaction of the
// caller's a failure would be the end of that.
func (s *Store) append(ctx context.Context, q querier, revocations []sealed.Revocation) error {
	n := len(revocations)
	ids, subjects := make([][]byte, n), make([][]byte, n)
	befores, untils := make([]*time.Time, n), make([]time.Time, n)
	for i, v := range revocations {
		untils[i] = ceil(v.Until)
		if v.Subject == "" {
			ids[i] = v.ID[:]
			if !v.From.IsZero() {
				from := v.From.Truncate(time.Millisecond)
				befores[i] = &from
			}
			continue
		}
		before := v.Before.Truncate(time.Millisecond)
		subjects[i], befores[i] = []byte(v.Subject), &before
	}
	if err := s.ensure(ctx, q, untils); err != nil {
		return err
	}
	_, err := q.Exec(ctx, s.sql(`
		WITH added AS (
			INSERT INTO %[1]s_revocations (id, subject, before, until)
			SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::timestamptz[], $4::timestamptz[])
		)
		SELECT pg_notify('%[1]s', '')`), ids, subjects, befores, untils)
	if err != nil {
		return wrapped("appending", err)
	}
	return nil
}

// ceil rounds up to milliseconds, so that nothing is forgotten too early.
func ceil(t time.Time) time.Time { return t.Add(time.Millisecond - 1).Truncate(time.Millisecond) }

func noPartition(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23514" // check_violation
}

func (s *Store) forgetPartitions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.partitions)
}

// ensure makes partitions for the times, where there are none. It looks with q, and
// makes them over a connection of its own: the pool's may all be in the hands of
// those who wait for this.
func (s *Store) ensure(ctx context.Context, q querier, untils []time.Time) error {
	for _, t := range untils {
		w := weekOf(t)
		s.mu.Lock()
		known := s.partitions[w]
		s.mu.Unlock()
		if known {
			continue
		}
		var there bool
		err := q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.partition(w)).Scan(&there)
		if err == nil && !there {
			err = s.makePartition(ctx, w)
		}
		if err != nil {
			return wrapped("making a partition", err)
		}
		s.mu.Lock()
		s.partitions[w] = true
		s.mu.Unlock()
	}
	return nil
}

func (s *Store) partition(w int64) string {
	return fmt.Sprintf("%s_revocations_w%d", s.prefix, w)
}

// makePartition attaches one to the table, which waits for nobody: CREATE TABLE ...
// PARTITION OF would wait for every transaction that has written.
func (s *Store) makePartition(ctx context.Context, w int64) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	const form = "2006-01-02 15:04:05Z"
	return s.change(ctx, conn, fmt.Sprintf(`
		DO $$ BEGIN
			IF to_regclass('%[2]s') IS NULL THEN
				CREATE TABLE %[2]s (LIKE %[1]s_revocations INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
				ALTER TABLE %[1]s_revocations ATTACH PARTITION %[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s');
			END IF;
		END $$`,
		s.prefix, s.partition(w), startOf(w).Format(form), startOf(w+1).Format(form)))
}

// Prune implements [revoke.Log]: it drops partitions whose week is over, and
// witnesses that have not been heard of for one. A partition that somebody is
// reading just now stays until the next time.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	rows, err := s.pool.Query(ctx, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)", s.prefix+"_revocations")
	if err != nil {
		return wrapped("pruning", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return wrapped("pruning", err)
	}
	for _, name := range names {
		if w, ok := s.weekOfPartition(name); ok && !startOf(w+1).After(before) {
			if err := s.drop(ctx, name); err != nil {
				return wrapped("pruning", err)
			}
		}
	}
	if _, err := s.pool.Exec(ctx, s.sql("UPDATE %s_witnesses SET seen = now() WHERE id = $1"), s.id); err != nil {
		return wrapped("pruning", err)
	}
	if _, err := s.pool.Exec(ctx, s.sql("DELETE FROM %s_witnesses WHERE seen < now() - interval '7 days'")); err != nil {
		return wrapped("pruning", err)
	}
	return nil
}

func (s *Store) weekOfPartition(name string) (w int64, ok bool) {
	_, err := fmt.Sscanf(name, s.prefix+"_revocations_w%d", &w)
	return w, err == nil
}

// drop drops a partition, unless it would have to wait: those who came behind
// would wait for it.
func (s *Store) drop(ctx context.Context, name string) error {
	_, err := s.pool.Exec(ctx, "SET LOCAL lock_timeout = '100ms'; DROP TABLE IF EXISTS "+pgx.Identifier{name}.Sanitize())
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "55P03" { // lock_not_available
		return nil
	}
	s.forgetPartitions()
	return err
}
