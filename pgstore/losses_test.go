package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/internal/mutation"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

// late begins a transaction that revokes 1, and lets another revoke 2 before it commits.
func late(t *testing.T, p *pgxpool.Pool, s *pgstore.Store) pgx.Tx {
	t.Helper()
	slow, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Rollback(context.Background()) })
	if err := s.RevokeTx(t.Context(), slow, revocation(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(2)}); err != nil {
		t.Fatal(err)
	}
	return slow
}

// What commits late, and losses that only one of the marks in a cursor can tell.
func TestLateAndLost(t *testing.T) {
	server, p, s := start(t)

	// Of two transactions, the first to write is the last to commit.
	slow := late(t, p, s)
	ids, cursor, err := readAll(t, s, "")
	if err != nil || len(ids) != 1 || ids[0] != (sealed.ID{2, 1}) {
		t.Fatalf("before the first commits: %v, %v", ids, err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, cursor, err = readAll(t, s, cursor); err != nil || len(ids) != 1 || ids[0] != (sealed.ID{1, 1}) {
		t.Errorf("after the first has committed: %v, %v, want that one", ids, err)
	}

	// A backup is restored, and time goes on until nothing else shows it.
	server.Kill()
	backup := server.Copy()
	server.Restart()
	retry(t, func() error { return s.Append(t.Context(), []sealed.Revocation{revocation(3)}) })
	if ids, cursor, err = readAll(t, s, cursor); err != nil || len(ids) != 1 {
		t.Fatalf("after a crash: %v, %v", ids, err)
	}
	server.Kill()
	server.Restore(backup)
	server.Restart()
	for n := range byte(20) {
		retry(t, func() error { return s.Append(t.Context(), []sealed.Revocation{revocation(10 + n)}) })
	}
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("after a backup was restored: %v, want ErrGap", err)
	}

	// A standby is promoted that has everything, and gives numbers of transactions that
	// the old server has given to others.
	if _, cursor, err = readAll(t, s, ""); err != nil {
		t.Fatal(err)
	}
	standby := server.Standby(server.Addr)
	server.Kill()
	standby.Promote()
	after := connect(t, standby, standby.Addr, pgstore.Config{})
	if err := after.Append(t.Context(), []sealed.Revocation{revocation(40)}); err != nil {
		t.Fatal(err)
	}
	if ids, cursor, err = readAll(t, after, cursor); err != nil || len(ids) != 1 || ids[0] != (sealed.ID{40, 1}) {
		t.Errorf("after a promotion: %v, %v, want the new one", ids, err)
	}
	execSQL(t, standby, "VACUUM FULL sealed_revocations")
	if ids, _, err = readAll(t, after, cursor); err != nil || len(ids) != 0 {
		t.Errorf("after VACUUM FULL: %v, %v", ids, err)
	}
	execSQL(t, standby, "TRUNCATE sealed_revocations")
	if _, _, err := readAll(t, after, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("after TRUNCATE: %v, want ErrGap", err)
	}
}

// Rows that are lost one by one, as by a server that had not all of them yet. A loss is
// that of a fence: the last row, what was found with it, and what is needed longest.
func TestLostRows(t *testing.T) {
	server, p, s := start(t)
	long := sealed.Revocation{ID: sealed.ID{9, 9}, Until: time.Now().Add(30 * 24 * time.Hour)}
	if err := s.Append(t.Context(), []sealed.Revocation{long}); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) { // found together, and the first is the last to commit
		err := pgx.BeginFunc(t.Context(), p, func(tx pgx.Tx) error {
			if err := s.RevokeTx(t.Context(), tx, revocation(10*n+1)); err != nil {
				return err
			}
			return s.Append(t.Context(), []sealed.Revocation{revocation(10*n + 2)})
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, cursor, err = readAll(t, s, cursor); err != nil {
			t.Fatal(err)
		}
		var which string
		switch n {
		case 0:
			which = "DELETE FROM sealed_revocations WHERE xid = (SELECT xid FROM sealed_revocations ORDER BY xid DESC OFFSET 1 LIMIT 1)"
		case 1:
			which = "UPDATE sealed_revocations SET mark = mark + 1 WHERE xid = (SELECT max(xid) FROM sealed_revocations)"
		case 2:
			which = "DELETE FROM sealed_revocations WHERE until > now() + interval '1 day'"
		}
		execSQL(t, server, which)
		if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
			t.Errorf("after %s: %v, want ErrGap", which, err)
		}
		if _, cursor, err = readAll(t, s, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// The last row is a fence also when it has expired: below it no number is given again.
func TestLostLastRowThatHasExpired(t *testing.T) {
	server, _, s := start(t)
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{{ID: sealed.ID{2}, Until: time.Now().Add(-3 * time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, server, "DELETE FROM sealed_revocations WHERE until < now()")
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("%v, want ErrGap", err)
	}
}

// A row that is found late is a fence, together with what came in the meantime.
func TestLostLateRow(t *testing.T) {
	server, p, s := start(t)
	slow := late(t, p, s)
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(3)}); err != nil {
		t.Fatal(err)
	}
	ids, cursor, err := readAll(t, s, cursor)
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v, want the late one and the new one", ids, err)
	}
	execSQL(t, server, "DELETE FROM sealed_revocations WHERE xid = (SELECT min(xid) FROM sealed_revocations)")
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("without the late one: %v, want ErrGap", err)
	}
}

// retry tries for a while: a pool has to find out that its connections are dead.
func retry(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for range 20 {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// The tests of losses fail when what they test is taken out.
func TestMutations(t *testing.T) {
	mutation.Catch(t, "TestLateAndLost|TestLostRows|TestLostLateRow", mutation.Mutations{
		"a cursor by number":          {{"c.Open = openBefore(a.snapshot, c.Last.Xid)", "c.Open = nil"}},
		"no fence":                    {{"case a.missing:", "case a.missing && false:"}},
		"a fence by number":           {{" AND r.mark = f.mark", ""}},
		"what comes late is none":     {{"c.found(a.late)\n", ""}, {"a.late.revocations...)", "a.late.revocations...)\n_ = len(a.late.fences)"}},
		"the last row is the fence":   {{"append(append(all, *c.Last), c.Others...)", "append(all, *c.Last)"}},
		"what is needed long is none": {{"all = append(all, *c.Longest)", ""}},
	})
}
