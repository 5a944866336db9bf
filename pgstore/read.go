package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// A reader that goes by a serial number misses what commits late: a transaction may
// take number 5 and commit after one that took 6 was read. So a cursor is a
// snapshot, as PostgreSQL has it: which transactions had ended. What is new is what
// those have written that had not.
//
// That holds as long as the server does not lose transactions, after which it
// would give their numbers to others. A cursor has three things more by which that
// is found out:
//
//   - the timeline, which is another after a failover;
//   - the reader's witness: a row that it writes after it has read something, and
//     before it relies on it. A server that was restored from a backup does not
//     have it as it was. And since writing it takes a transaction number, a server
//     that crashes cannot give numbers below it again;
//   - the files of the partitions, which TRUNCATE changes, and which may be gone only
//     when their time is over.
type cursor struct {
	Timeline   string           `json:"t"`
	Reader     string           `json:"r"` // whose witness
	Witness    int64            `json:"w"`
	Partitions map[string]int64 `json:"p"` // name to file
	Snapshot   string           `json:"s"` // all that it has was read

	// Within a read of several pages: the snapshot that is being read, and the last
	// row.
	Target string `json:"n,omitempty"`
	Xid    string `json:"x,omitempty"`
	Ord    int64  `json:"o,omitempty"`
}

// nothing is a snapshot that has no transaction.
const nothing = "3:3:"

// pageRows bounds a page.
const pageRows = 5000

var (
	snapshotForm = regexp.MustCompile(`^[0-9]{1,20}:[0-9]{1,20}:[0-9,]*$`)
	xidForm      = regexp.MustCompile(`^[0-9]{1,20}$`)
)

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return cursor{Snapshot: nothing}, nil // with no witness yet
	}
	err = json.Unmarshal([]byte(text), &c)
	if err != nil || !snapshotForm.MatchString(c.Snapshot) || c.Timeline == "" ||
		(c.Target != "") != (c.Xid != "") || c.Target != "" && (!snapshotForm.MatchString(c.Target) || !xidForm.MatchString(c.Xid)) {
		return c, fmt.Errorf("pgstore: %.30q is no cursor of this log", text)
	}
	return c, nil
}

// state is what the server says of itself.
type state struct {
	snapshot, timeline string
	witness            int64 // 0 for none
	partitions         map[string]int64
	foreign            bool // there are rows of transactions that this server has not had
}

var errForeign = errors.New("pgstore: reading: the table comes from another server, as by pg_dump: run Migrate")

// Read implements [revoke.Log].
func (s *Store) Read(ctx context.Context, text string) (revoke.Page, error) {
	c, err := parseCursor(text)
	if err != nil {
		return revoke.Page{}, err
	}
	now, rows, err := s.query(ctx, c)
	if err != nil {
		return revoke.Page{}, wrapped("reading", err)
	}
	if text != "" && s.lost(c, now) {
		return revoke.Page{}, revoke.ErrGap
	}
	if now.foreign {
		return revoke.Page{}, errForeign
	}
	next := c
	next.Timeline, next.Partitions = now.timeline, now.partitions
	if next.Target == "" {
		next.Target = now.snapshot
	}
	page := revoke.Page{More: len(rows) == pageRows}
	for _, r := range rows {
		page.Revocations = append(page.Revocations, r.revocation())
		next.Xid, next.Ord = r.xid, r.ord
	}
	if !page.More {
		next.Snapshot = next.Target
		if len(rows) == 0 && c.Target == "" && text != "" {
			next.Snapshot = c.Snapshot // nothing new, so nothing to witness
		}
		next.Target, next.Xid, next.Ord = "", "", 0
	}
	if next.Witness == 0 || len(rows) > 0 {
		if next.Witness, err = s.bearWitness(ctx); err != nil {
			return revoke.Page{}, wrapped("reading", err)
		}
		next.Reader = s.id
	}
	b, err := json.Marshal(next)
	if err != nil {
		return revoke.Page{}, wrapped("reading", err)
	}
	page.Cursor = string(b)
	return page, nil
}

// lost reports whether the server may have lost something of what came before a
// cursor.
func (s *Store) lost(c cursor, now state) bool {
	if c.Timeline != now.timeline || c.Witness > now.witness {
		return true
	}
	for name, file := range c.Partitions {
		w, ok := s.weekOfPartition(name)
		current, there := now.partitions[name]
		over := ok && startOf(w+1).Before(time.Now())
		if there && current != file || !there && !over {
			return true
		}
	}
	return false
}

// A row is one revocation in the table.
type row struct {
	xid           string
	ord           int64
	id, subject   []byte
	before, until *time.Time
}

func (r row) revocation() sealed.Revocation {
	v := sealed.Revocation{Until: *r.until}
	if r.subject != nil {
		v.Subject, v.Before = string(r.subject), *r.before
		return v
	}
	copy(v.ID[:], r.id)
	if r.before != nil {
		v.From = *r.before
	}
	return v
}

// query asks for the state of the server and the rows behind a cursor, as of one
// moment. The transaction is one message: see change.
func (s *Store) query(ctx context.Context, c cursor) (now state, rows []row, err error) {
	target, xid := c.Target, c.Xid
	if target == "" {
		xid = "0"
	}
	var batch pgx.Batch
	batch.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	batch.Queue(s.sql(`
		SELECT pg_current_snapshot()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
			coalesce((SELECT seq FROM %[1]s_witnesses WHERE id = $1), 0),
			coalesce((SELECT json_object_agg(p.relname, pg_relation_filenode(p.oid)::bigint)
				FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
				WHERE i.inhparent = '%[1]s_revocations'::regclass), '{}')::text,
			EXISTS (SELECT FROM %[1]s_revocations WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))`), c.Reader).QueryRow(func(r pgx.Row) error {
		var partitions string
		if err := r.Scan(&now.snapshot, &now.timeline, &now.witness, &partitions, &now.foreign); err != nil {
			return err
		}
		return json.Unmarshal([]byte(partitions), &now.partitions)
	})
	batch.Queue(s.sql(`
		SELECT xid::text, ord, id, subject, before, until FROM %s_revocations
		WHERE until > now() - interval '1 hour'
			AND xid >= pg_snapshot_xmin($1::text::pg_snapshot)
			AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
			AND ($2::text = '' OR pg_visible_in_snapshot(xid, nullif($2, '')::pg_snapshot))
			AND (xid, ord) > ($3::text::xid8, $4::bigint)
		ORDER BY xid, ord LIMIT $5`), c.Snapshot, target, xid, c.Ord, pageRows).Query(func(r pgx.Rows) error {
		rows, err = pgx.CollectRows(r, func(r pgx.CollectableRow) (x row, err error) {
			err = r.Scan(&x.xid, &x.ord, &x.id, &x.subject, &x.before, &x.until)
			return x, err
		})
		return err
	})
	batch.Queue("COMMIT")
	err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		err := conn.SendBatch(ctx, &batch).Close()
		if err != nil && !conn.Conn().IsClosed() {
			conn.Exec(ctx, "ROLLBACK") // else the pool closes the connection
		}
		return err
	})
	return now, rows, err
}

// bearWitness writes the witness of this store, durably whatever the server's
// default, and returns its number.
func (s *Store) bearWitness(ctx context.Context) (seq int64, err error) {
	s.mu.Lock()
	s.witness++
	seq = s.witness
	s.mu.Unlock()
	_, err = s.pool.Exec(ctx, s.sql(`
		WITH durable AS (SELECT set_config('synchronous_commit', 'on', true))
		INSERT INTO %[1]s_witnesses AS w (id, seq) SELECT $1, $2 FROM durable
		ON CONFLICT (id) DO UPDATE SET seq = greatest(w.seq, excluded.seq), seen = now()`), s.id, seq)
	return seq, err
}

// Wait implements [revoke.Log].
func (s *Store) Wait(ctx context.Context, _ string) error {
	if !s.hints.TryLock() {
		<-ctx.Done() // somebody else waits on the one connection for it
		return ctx.Err()
	}
	defer s.hints.Unlock()
	if err := s.listen(ctx); err != nil {
		return wrapped("waiting", err)
	}
	_, err := s.listener.WaitForNotification(ctx)
	if err != nil && s.listener.IsClosed() {
		s.hangUp()
	}
	if err == nil {
		err = s.drain(ctx)
	}
	return err
}

// drain takes all hints that have gathered: they are one.
func (s *Store) drain(ctx context.Context) error {
	if err := s.listener.Ping(ctx); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel() // take what is there, and wait for nothing
	for {
		if _, err := s.listener.WaitForNotification(done); err != nil {
			return nil
		}
	}
}

// listen connects for hints. The caller has hints locked.
func (s *Store) listen(ctx context.Context) error {
	if s.closed {
		return errors.New("the store is closed")
	}
	if s.listener != nil {
		return nil
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.prefix}.Sanitize()); err != nil {
		conn.Close(ctx)
		return err
	}
	s.listener = conn
	return nil
}

// dial makes a connection beside the pool, as the pool would.
func (s *Store) dial(ctx context.Context) (*pgx.Conn, error) {
	config := s.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

func (s *Store) hangUp() {
	if s.listener != nil {
		hangUp(s.listener)
		s.listener = nil
	}
}

func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}
