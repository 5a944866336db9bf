package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

func TestFarReplicaKeepsUp(t *testing.T) {
	server := testserver.StartRedis(t, "--appendfsync", "everysec")
	faulttest.Far(t, server.Addr, func(t *testing.T, addr string) revoke.Log { return connect(t, addr, redisstore.Config{}) })
}

func TestFailoverIsNoHerd(t *testing.T) {
	server := testserver.StartRedis(t, "--appendfsync", "everysec")
	connectTo := func(t *testing.T, addr string) revoke.Log { return connect(t, addr, redisstore.Config{}) }
	faulttest.Herd(t, server.Addr, connectTo, func(networks []*testserver.Proxy) {
		replication := testserver.NewProxy(t, server.Addr)
		host, port, _ := strings.Cut(replication.Addr, ":")
		successor := testserver.StartRedis(t, "--replicaof", host+" "+port)
		successor.Await("master_link_status:up")
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
		successor.MustDo("REPLICAOF", "NO", "ONE")
		for _, p := range networks {
			p.Retarget(successor.Addr)
		}
	})
}

// An entry that is needed long keeps none that is needed short. Time cannot be put
// forward on a server, so entries come with ends that are over, as those of thirty days.
func TestLongEntriesKeepNoShortOnes(t *testing.T) {
	server := testserver.StartRedis(t, "--appendfsync", "no")
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	s := connect(t, server.Addr, redisstore.Config{})
	mustAppend(t, s, sealed.Revocation{Subject: "alice", Before: time.Now(), Until: time.Now().Add(400 * 24 * time.Hour)})
	needed, alive := 0, 0
	for day := range 30 {
		var all []sealed.Revocation
		for n := range 2400 {
			until := time.Now().Add(time.Duration(day-29)*24*time.Hour + time.Duration(n)*time.Minute*24*60/2400)
			all = append(all, sealed.Revocation{ID: sealed.ID{byte(day), byte(n), byte(n >> 8), 1}, Until: until})
			if until.After(time.Now().Add(-time.Hour)) {
				needed++
			}
			if until.After(time.Now()) {
				alive++
			}
		}
		for len(all) > 0 {
			mustAppend(t, s, all[:100]...)
			all = all[100:]
		}
	}
	if err := s.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The tail is that of ten minutes, here all of the thirty days: it goes with the next.
	keys, err := client.Keys(t.Context(), "{sealed:revocations}:part:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, key := range keys {
		size += int(client.StrLen(t.Context(), key).Val())
	}
	if have := size / 26; float64(have) > 1.3*float64(needed) || have < alive {
		t.Errorf("%d entries are kept, of %d that are needed", have, needed)
	}
	_, _, err = readAll(t, s, "")
	if err != nil {
		t.Error(err)
	}
}

// Parts are dropped when their hour was over an hour ago, and no earlier.
func TestPruneDropsWholeParts(t *testing.T) {
	server := testserver.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	s := connect(t, server.Addr, redisstore.Config{})
	this := time.Now().Unix() / 3600
	mustAppend(t, s, revocation(1))
	for _, hour := range []int64{this - 3, this - 2, this - 1, this} {
		name := fmt.Sprintf("%08d-000000", hour)
		b, err := revoke.AppendEntry(nil, sealed.Revocation{ID: sealed.ID{byte(hour - this + 10), 8}, Until: time.Unix(hour*3600, 0)})
		if err != nil {
			t.Fatal(err)
		}
		client.Append(t.Context(), "{sealed:revocations}:part:"+name, string(b))
		client.HSet(t.Context(), "{sealed:revocations}:index", name, len(b))
	}
	if err := s.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, _, err := readAll(t, s, "")
	if err != nil || len(ids) != 3 || ids[0] != (sealed.ID{9, 8}) {
		t.Errorf("%v are left, %v, want those of the last hour, this one and the next", ids, err)
	}
}

// The tail keeps ten minutes, and the last entry before.
func TestTailIsShort(t *testing.T) {
	server := testserver.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	s := connect(t, server.Addr, redisstore.Config{})
	mustAppend(t, s, revocation(100))
	client.Del(t.Context(), "sealed:revocations")
	before, now := "0-0", time.Now().UnixMilli()
	for n, age := range []int64{3600, 1200, 601, 599, 10} {
		id := fmt.Sprint(now-age*1000, "-0")
		err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "sealed:revocations", ID: id, Values: []any{"p", before, "n", fmt.Sprintf("%016x", n), "r", ""}}).Err()
		if err != nil {
			t.Fatal(err)
		}
		before = id
	}
	mustAppend(t, s, revocation(1))
	if n := client.XLen(t.Context(), "sealed:revocations").Val(); n != 3 {
		t.Errorf("%d entries, want three: two of the last ten minutes, and the new one", n)
	}
}

// A program of a later version adds entries of kinds that this one does not know.
func TestEntriesOfALaterVersion(t *testing.T) {
	server := testserver.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	s := connect(t, server.Addr, redisstore.Config{})
	faulttest.Later(t, s, func(entry string) {
		last := client.XRevRangeN(t.Context(), "sealed:revocations", "+", "-", 1).Val()[0].ID
		err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "sealed:revocations", Values: []any{"x", "a new field", "p", last, "n", "0123456789abcdef", "r", entry}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	})

	// A later form of all of it is left alone.
	before := client.XLen(t.Context(), "sealed:revocations").Val()
	client.HSet(t.Context(), "{sealed:revocations}:index", "v", "2")
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(4)}); !errors.Is(err, revoke.ErrNewer) {
		t.Errorf("Append to a log of version 2: %v, want ErrNewer", err)
	}
	if _, err := s.Read(t.Context(), ""); !errors.Is(err, revoke.ErrNewer) {
		t.Errorf("Read of a log of version 2: %v, want ErrNewer", err)
	}
	if n := client.XLen(t.Context(), "sealed:revocations").Val(); n != before {
		t.Error("something was added to a log of version 2")
	}
}

// What a reader of a quiet log has read last stays in the tail, however old it is.
func TestTailKeepsTheFenceOfAQuietLog(t *testing.T) {
	server := testserver.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	s := connect(t, server.Addr, redisstore.Config{})
	mustAppend(t, s, revocation(1))
	client.Del(t.Context(), "sealed:revocations")
	id := fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli(), "-0")
	err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "sealed:revocations", ID: id, Values: []any{"p", "0-0", "n", "0123456789abcdef", "r", ""}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, revocation(2))
	if ids, _, err := readAll(t, s, cursor); err != nil || len(ids) != 1 {
		t.Errorf("after an hour of silence: %v, %v, want the new one", ids, err)
	}
}

// A server that may lose what it acknowledges is told of at the start.
func TestUnsafeServerIsToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"as it should be": {nil, ""},
		"evicting":        {[]string{"--maxmemory-policy", "allkeys-lru"}, "maxmemory-policy"},
		"in memory":       {[]string{"--appendonly", "no"}, "appendonly"},
	} {
		server := testserver.StartRedis(t, c.args...)
		told := make(chan error, 10)
		faulttest.Follow(t, connect(t, server.Addr, redisstore.Config{}), revoke.Policy{Observe: func(e revoke.Event) {
			if e.Kind == revoke.EventUnsafe {
				told <- e.Err
			}
		}})
		wait := 5 * time.Second
		if c.want == "" {
			wait = time.Second
		}
		select {
		case err := <-told:
			if c.want == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(wait):
			if c.want != "" {
				t.Errorf("%s: nobody told", name)
			}
		}
	}
}
