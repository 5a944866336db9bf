package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed/revoke"
)

const (
	// pageBytes and pageRows bound a page: so much takes little longer than a round trip,
	// also to another continent.
	pageBytes = 256 << 10
	pageRows  = 10000

	// pageFences is how many transactions of a page become fences.
	pageFences = 16
)

var errForeign = errors.New("pgstore: reading: the table comes from another server, as by pg_dump: run Migrate")

// answer is what the server says when it is asked for a page.
type answer struct {
	version    int
	snapshot   string
	foreign    bool // there are rows of transactions that this server has not had
	now        time.Time
	begun      time.Duration // since the last heartbeat was begun, and since one that was acknowledged
	proved     *time.Duration
	standbys   bool // commits wait for standbys
	missing    bool // a fence is
	late, next found
	more       bool
}

// found is some rows: their entries, the last row of each of the last transactions, and
// the row that is needed longest.
type found struct {
	entries []byte
	last    []fence
	longest *fence
}

// Read implements [revoke.Log].
func (s *Store) Read(ctx context.Context, text string) (page revoke.Page, err error) {
	c, err := parseCursor(text)
	if err != nil {
		return page, err
	}
	a, err := s.ask(ctx, c)
	switch {
	case err != nil:
		return page, wrapped("reading", err)
	case a.version != tablesVersion:
		return page, errVersion(a.version)
	case a.missing:
		return page, revoke.ErrGap
	case a.foreign:
		return page, errForeign
	}
	for _, f := range []found{a.late, a.next} {
		if page.Revocations, err = revoke.ParseEntries(page.Revocations, f.entries); err != nil {
			return page, wrapped("reading", err)
		}
		c.found(f)
	}
	if c.Last != nil {
		c.Open = openBefore(a.snapshot, c.Last.Xid)
	}
	page.More, page.Time, page.Age = a.more, a.now, s.age(a)
	page.Cursor, err = c.String()
	return page, err
}

// found moves the cursor over rows.
func (c *cursor) found(f found) {
	if len(f.last) == 0 {
		return
	}
	c.Others = f.last
	if last := f.last[0]; c.Last == nil || after(last, *c.Last) {
		c.Last, c.Others = &last, f.last[1:]
	}
	if c.Longest == nil || f.longest.Until > c.Longest.Until {
		c.Longest = f.longest
	}
}

// after reports whether a row comes behind another.
func after(a, b fence) bool {
	if len(a.Xid) != len(b.Xid) {
		return len(a.Xid) > len(b.Xid)
	}
	return a.Xid > b.Xid || a.Xid == b.Xid && a.Ord > b.Ord
}

// stateSQL asks for the state of the server, and for fences: the first must be there, the
// others unless they have expired.
const stateSQL = `
	SELECT l.version, pg_current_snapshot()::text, clock_timestamp(),
		extract(epoch FROM clock_timestamp() - l.begun)::float8, extract(epoch FROM clock_timestamp() - l.proved)::float8,
		current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') NOT IN ('off', 'local'),
		EXISTS (SELECT FROM %[1]s_revocations WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())),
		EXISTS (
			SELECT FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS f (xid, ord, mark, until, n)
			LEFT JOIN %[1]s_revocations r ON r.xid = f.xid::xid8 AND r.ord = f.ord AND r.mark = f.mark
			WHERE r.xid IS NULL AND (f.n = 1 OR f.until > 1000 * extract(epoch FROM now() - interval '1 hour')))
	FROM %[1]s_log l`

// rowsSQL sums rows up: those of the query that is filled in.
const rowsSQL = `
	WITH rows AS MATERIALIZED (%[1]s),
	sized AS (SELECT *, sum(octet_length(entry)) OVER (ORDER BY xid, ord) - octet_length(entry) AS before FROM rows),
	page AS (SELECT * FROM sized WHERE before < %[2]d),
	fences AS (SELECT xid::text AS x, ord AS o, mark AS m, (1000 * extract(epoch FROM until))::bigint AS u FROM page)
	SELECT coalesce((SELECT string_agg(entry, ''::bytea ORDER BY xid, ord) FROM page), ''::bytea),
		coalesce((SELECT json_agg(f) FROM (SELECT DISTINCT ON (x::xid8) * FROM fences ORDER BY x::xid8 DESC, o DESC LIMIT %[3]d) f), '[]')::text,
		coalesce((SELECT to_json(f) FROM (SELECT * FROM fences ORDER BY u DESC LIMIT 1) f), 'null')::text,
		(SELECT count(*) FROM rows) = %[4]d OR (SELECT count(*) FROM rows) > (SELECT count(*) FROM page)`

// ask asks for the state of the server and the rows behind a cursor, as of one moment.
// The transaction is one message: see change.
func (s *Store) ask(ctx context.Context, c cursor) (a answer, err error) {
	fences := c.fences()
	xids, ords := make([]string, len(fences)), make([]int64, len(fences))
	marks, untils := make([]int64, len(fences)), make([]int64, len(fences))
	for i, f := range fences {
		xids[i], ords[i], marks[i], untils[i] = f.Xid, f.Ord, f.Mark, f.Until
	}
	last := fence{Xid: "0"}
	if c.Last != nil {
		last = *c.Last
	}
	var batch pgx.Batch
	batch.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	batch.Queue(s.sql(stateSQL), xids, ords, marks, untils).QueryRow(func(r pgx.Row) error {
		var begun float64
		var proved *float64
		err := r.Scan(&a.version, &a.snapshot, &a.now, &begun, &proved, &a.standbys, &a.foreign, &a.missing)
		a.begun = seconds(begun)
		if proved != nil {
			d := seconds(*proved)
			a.proved = &d
		}
		return err
	})
	const columns = "SELECT xid, ord, mark, until, entry FROM %[1]s_revocations "
	var ignored bool
	if len(c.Open) > 0 {
		late := s.sql(columns + "WHERE xid = ANY ($1::text[]::xid8[])")
		batch.Queue(fmt.Sprintf(rowsSQL, late, 1<<30, pageFences, -1), c.Open).QueryRow(func(r pgx.Row) error { return a.late.scan(r, &ignored) })
	}
	next := s.sql(columns + "WHERE (xid, ord) > ($1::text::xid8, $2::bigint) ORDER BY xid, ord LIMIT $3::bigint")
	batch.Queue(fmt.Sprintf(rowsSQL, next, pageBytes, pageFences, pageRows), last.Xid, last.Ord, pageRows).QueryRow(func(r pgx.Row) error { return a.next.scan(r, &a.more) })
	batch.Queue("COMMIT")
	err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		err := conn.SendBatch(ctx, &batch).Close()
		if err != nil && !conn.Conn().IsClosed() {
			conn.Exec(ctx, "ROLLBACK") // else the pool closes the connection
		}
		return err
	})
	return a, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (f *found) scan(r pgx.Row, more *bool) error {
	var last, longest string
	if err := r.Scan(&f.entries, &last, &longest, more); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal([]byte(last), &f.last), json.Unmarshal([]byte(longest), &f.longest))
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
