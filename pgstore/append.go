package pgstore

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Append implements [revoke.Log].
func (s *Store) Append(ctx context.Context, revocations []sealed.Revocation) error {
	if len(revocations) == 0 {
		return ctx.Err()
	}
	return s.append(ctx, s.pool, revocations)
}

// RevokeTx revokes within a transaction of the caller's: when that commits, the
// sessions are refused on every instance within the bound of its replica, and if it
// does not, nothing has happened. On the caller's own instance too it takes until
// its replica has read it: Refresh waits for that.
//
// Exactly one of ID and Subject is set in each revocation. Before is the time up to which
// sessions of the subject end. Until is when the list may forget it: for a subject, Before plus the longest
// that a session lasts (Config.Lifetime and all Terms, at most 400 days) plus five minutes for clocks that
// differ; for an ID, the session's Expires plus five minutes. It is an error if one of them is missing,
// and the transaction goes on. Where synchronous_commit is
// off, it is on for this transaction: what others have read must not be lost.
func (s *Store) RevokeTx(ctx context.Context, tx pgx.Tx, revocations ...sealed.Revocation) error {
	if len(revocations) == 0 {
		return nil
	}
	return s.append(ctx, tx, revocations)
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// append writes rows.
func (s *Store) append(ctx context.Context, q querier, revocations []sealed.Revocation) error {
	entries, untils := make([][]byte, len(revocations)), make([]time.Time, len(revocations))
	for i, v := range revocations {
		var err error
		if entries[i], err = revoke.AppendEntry(nil, v); err != nil {
			return wrapped("appending", err)
		}
		untils[i] = v.Until.Add(time.Millisecond)
	}
	var version int
	err := q.QueryRow(ctx, s.sql(`
		WITH durable AS (
			SELECT version, CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
			FROM %[1]s_log
		), added AS (
			INSERT INTO %[1]s_revocations (mark, entry, until)
			SELECT $1::bigint, e, u FROM durable, unnest($2::bytea[], $3::timestamptz[]) AS x (e, u) WHERE version = $4::int
		)
		SELECT version FROM durable, pg_notify('%[1]s', '')`), int64(rand.Uint64()), entries, untils, tablesVersion).Scan(&version)
	if err != nil {
		return wrapped("appending", err)
	}
	if version != tablesVersion {
		return errVersion(version)
	}
	return nil
}

const (
	// pruneRows is how many rows are deleted at a time.
	pruneRows = 10000

	// fenceRows is how many rows stay, the last ones: they are the fences of those who
	// have read to the end, or nearly.
	fenceRows = 100
)

// Prune implements [revoke.Log].
func (s *Store) Prune(ctx context.Context) error {
	for {
		tag, err := s.pool.Exec(ctx, s.sql(`
			DELETE FROM %[1]s_revocations WHERE ctid = ANY (ARRAY(
				SELECT ctid FROM %[1]s_revocations WHERE until < now() - interval '1 hour'
					AND (xid, ord) < (SELECT xid, ord FROM %[1]s_revocations ORDER BY xid DESC, ord DESC OFFSET $2::bigint LIMIT 1)
				LIMIT $1::bigint FOR UPDATE SKIP LOCKED))`), pruneRows, fenceRows-1)
		if err != nil {
			return wrapped("pruning", err)
		}
		if tag.RowsAffected() < pruneRows {
			return nil
		}
	}
}
