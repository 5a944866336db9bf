package pgstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

func TestFarReplicaKeepsUp(t *testing.T) {
	server := testserver.StartPostgres(t, "-c", "fsync=off")
	mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	faulttest.Far(t, server.Addr, func(t *testing.T, addr string) revoke.Log { return connect(t, server, addr, pgstore.Config{}) })
}

func TestFailoverIsNoHerd(t *testing.T) {
	server := testserver.StartPostgres(t)
	connectTo := func(t *testing.T, addr string) revoke.Log { return connect(t, server, addr, pgstore.Config{}) }
	mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	faulttest.Herd(t, server.Addr, connectTo, func(networks []*testserver.Proxy) {
		replication := testserver.NewProxy(t, server.Addr)
		successor := server.Standby(replication.Addr)
		time.Sleep(time.Second)
		replication.Set(testserver.BlackHole)
		log := connectTo(t, server.Addr)
		for n := range byte(20) {
			if err := log.Append(t.Context(), []sealed.Revocation{revocation(n)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(1500 * time.Millisecond) // until everybody has read that
		server.Kill()
		successor.Promote()
		for _, p := range networks {
			p.Retarget(successor.Addr)
		}
	})
}

// A program of a later version adds entries of kinds that this one does not know.
func TestEntriesOfALaterVersion(t *testing.T) {
	server, p, s := start(t)
	faulttest.Later(t, s, func(entry string) {
		execSQL(t, server, fmt.Sprintf(`INSERT INTO sealed_revocations (mark, until, entry) VALUES (1, now() + interval '1 hour', '\x%x')`, entry))
	})
	rows := func() (n int) {
		if err := p.QueryRow(t.Context(), "SELECT count(*) FROM sealed_revocations").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := rows()
	execSQL(t, server, "UPDATE sealed_log SET version = 2")
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(4)}); !errors.Is(err, revoke.ErrNewer) {
		t.Errorf("Append to tables of version 2: %v, want ErrNewer", err)
	}
	if _, err := s.Read(t.Context(), ""); !errors.Is(err, revoke.ErrNewer) {
		t.Errorf("Read of tables of version 2: %v, want ErrNewer", err)
	}
	if rows() != before {
		t.Error("something was added to tables of version 2")
	}
}

// A server that may lose what it acknowledges is told of.
func TestUnsafeServerIsToldOf(t *testing.T) {
	for setting, want := range map[string]bool{"fsync=on": false, "fsync=off": true, "full_page_writes=off": true} {
		server := testserver.StartPostgres(t, "-c", setting)
		if err := connect(t, server, server.Addr, pgstore.Config{}).Inspect(t.Context()); (err != nil) != want {
			t.Errorf("%s: %v", setting, err)
		}
	}
}
