package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
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

// found is some rows: their revocations, the last row of each of the last transactions,
// the last of all first, and the row that is needed longest.
type found struct {
	revocations []sealed.Revocation
	fences      []fence
	longest     fence
}

// Read implements [revoke.Log].
func (s *Store) Read(ctx context.Context, cursor string) (page revoke.Page, err error) {
	c, err := parseCursor(cursor)
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
	page.Revocations = append(a.next.revocations, a.late.revocations...)
	if len(a.late.fences)+len(a.next.fences) > 0 {
		c.Others = nil // those of this page take their place
	}
	c.found(a.late)
	c.found(a.next)
	c.Others = c.Others[:min(len(c.Others), 2*pageFences)]
	if c.Last != nil {
		c.Open = openBefore(a.snapshot, c.Last.Xid)
	}
	page.More, page.Time, page.Age = a.more, a.now, s.age(a)
	page.Cursor, err = c.String()
	return page, err
}

// found moves the cursor over rows.
func (c *cursor) found(f found) {
	if len(f.fences) == 0 {
		return
	}
	others := f.fences
	if last := f.fences[0]; c.Last == nil || after(last, *c.Last) {
		c.Last, others = &last, f.fences[1:]
	}
	c.Others = append(c.Others, others...)
	if c.Longest == nil || f.longest.Until > c.Longest.Until {
		c.Longest = &f.longest
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

// rowsSQL asks for the rows of the query that is filled in, as many as a page takes.
const rowsSQL = `
	SELECT xid::text, ord, mark, until, entry FROM (
		SELECT *, sum(octet_length(entry)) OVER (ORDER BY xid, ord) - octet_length(entry) AS before FROM (
			SELECT xid, ord, mark, until, entry FROM %[1]s_revocations WHERE %[2]s) AS rows
	) AS sized WHERE before < %[3]d ORDER BY sized.xid, sized.ord`

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
	// Rows are taken in the order of the index, a page of them: without statistics, which
	// a table has after a while, the planner would rather read and sort them all, and
	// compile that first.
	batch.Queue("SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true)")
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
	if len(c.Open) > 0 { // all of them: they are not asked for again
		late := fmt.Sprintf(rowsSQL, s.prefix, "xid = ANY ($1::text[]::xid8[])", 1<<40)
		batch.Queue(late, c.Open).Query(func(r pgx.Rows) error { _, err := a.late.collect(r); return err })
	}
	next := fmt.Sprintf(rowsSQL, s.prefix, "(xid, ord) > ($1::text::xid8, $2::bigint) ORDER BY xid, ord LIMIT $3::bigint", pageBytes)
	batch.Queue(next, last.Xid, last.Ord, pageRows).Query(func(r pgx.Rows) (err error) { a.more, err = a.next.collect(r); return err })
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

// collect takes rows, and reports whether they fill a page.
func (f *found) collect(rows pgx.Rows) (full bool, err error) {
	var x fence
	var until time.Time
	var entry pgtype.DriverBytes // until the next row
	var entries []byte
	var ends []int // of each row's, so that none that is damaged takes from the next
	into := []any{&x.Xid, &x.Ord, &x.Mark, &until, &entry}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return false, err
		}
		x.Until = until.UnixMilli()
		entries = append(entries, entry...)
		ends = append(ends, len(entries))
		if last := len(f.fences) - 1; last >= 0 && f.fences[last].Xid == x.Xid {
			f.fences[last] = x
		} else {
			f.fences = append(f.fences, x)
		}
		if x.Until > f.longest.Until {
			f.longest = x
		}
	}
	f.revocations = make([]sealed.Revocation, 0, len(ends))
	start := 0
	for _, end := range ends {
		if f.revocations, err = revoke.ParseEntries(f.revocations, entries[start:end]); err != nil {
			return false, err
		}
		start = end
	}
	slices.Reverse(f.fences)
	f.fences = f.fences[:min(len(f.fences), pageFences)]
	return len(ends) == pageRows || len(entries) >= pageBytes, rows.Err()
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
