package redisstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/internal/mutation"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/keystore"
	"example.com/sealed/keystore/keystoretest"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

func connect(t testing.TB, addr string, config redisstore.Config) *redisstore.Store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { client.Close() })
	s, err := redisstore.New(client, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// prefix gives each test keys of its own on one server.
func prefix(t testing.TB) redisstore.Config {
	return redisstore.Config{Prefix: strings.ReplaceAll(t.Name(), " ", "_")}
}

func TestKeystoreContract(t *testing.T) {
	server := testserver.StartRedis(t)
	keystoretest.Run(t, func(t *testing.T) keystore.Store { return connect(t, server.Addr, prefix(t)) })
}

func TestLogContract(t *testing.T) {
	server := testserver.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	revoketest.Run(t, func(t *testing.T) revoke.Log { return connect(t, server.Addr, prefix(t)) },
		map[string]func(*testing.T, revoke.Log){
			"the server was emptied":  func(*testing.T, revoke.Log) { server.MustDo("FLUSHALL") },
			"its keys are gone":       func(t *testing.T, _ revoke.Log) { deleteAll(t, client, prefix(t).Prefix) },
			"no data after a restart": func(*testing.T, revoke.Log) { server.Kill(); server.Forget(); server.Restart() },
		})
}

func deleteAll(t *testing.T, client *redis.Client, prefix string) {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*"+prefix+":revocations*").Result()
	if err != nil || len(keys) < 3 {
		t.Fatalf("%q, %v", keys, err)
	}
	if err := client.Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
}

func revocation(n byte) sealed.Revocation {
	return sealed.Revocation{ID: sealed.ID{n, 1}, Until: time.Now().Add(time.Hour)}
}

// Losses that only the chain, only the fence, or only the origin can tell.
func TestLosses(t *testing.T) {
	server := testserver.StartRedis(t)
	s := connect(t, server.Addr, redisstore.Config{})
	_, start, _ := readAll(t, s, "")
	cursors := []string{start}
	for n := range byte(5) {
		mustAppend(t, s, revocation(n))
		_, next, err := readAll(t, s, cursors[n])
		if err != nil {
			t.Fatal(err)
		}
		cursors = append(cursors, next)
	}
	id := strings.Split(cursors[3], "/")[2]
	server.MustDo("XDEL", "sealed:revocations", id)
	for n, want := range []error{revoke.ErrGap, revoke.ErrGap, revoke.ErrGap, revoke.ErrGap, nil, nil} {
		if _, _, err := readAll(t, s, cursors[n]); !errors.Is(err, want) {
			t.Errorf("with entry 3 gone, Read from entry %d: %v, want %v", n, err, want)
		}
	}
	if ids, _, err := readAll(t, s, ""); err != nil || len(ids) != 5 {
		t.Errorf("from the beginning: %d of 5, %v", len(ids), err)
	}

	// An entry with the ID of one that is lost, as a clock that went back gives it.
	id = strings.Split(cursors[5], "/")[2]
	server.MustDo("DEL", "sealed:revocations")
	if _, err := s.Read(t.Context(), cursors[5]); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("of a stream that is gone: %v, want ErrGap", err)
	}
	server.MustDo("XADD", "sealed:revocations", id, "p", "0-0", "n", "0123456789abcdef", "r", "\"\"")
	if _, err := s.Read(t.Context(), cursors[5]); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("of another entry with its ID: %v, want ErrGap", err)
	}

	// Another log, of which the tail alone would say nothing.
	mustAppend(t, s, revocation(9))
	_, end, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	server.MustDo("HSET", "{sealed:revocations}:index", "o", "0123456789abcdef")
	if _, err := s.Read(t.Context(), end); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("of another log: %v, want ErrGap", err)
	}
}

func mustAppend(t *testing.T, s *redisstore.Store, v ...sealed.Revocation) {
	t.Helper()
	if err := s.Append(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

// readAll reads from a cursor to the end.
func readAll(t *testing.T, l revoke.Log, cursor string) (ids []sealed.ID, next string, err error) {
	t.Helper()
	for range 10000 {
		page, err := l.Read(t.Context(), cursor)
		if err != nil {
			return ids, cursor, err
		}
		for _, v := range page.Revocations {
			ids = append(ids, v.ID)
		}
		cursor = page.Cursor
		if !page.More {
			return ids, cursor, nil
		}
	}
	t.Fatal("Read has more and more, though nobody appends")
	return nil, "", nil
}

// The tests of losses fail when what they test is taken out.
func TestMutations(t *testing.T) {
	mutation.Catch(t, "TestLosses", mutation.Mutations{
		"no chain check": {{"if p ~= id then return {'gap'} end", ""}},
		"no fence":       {{"if not at or field(at, 'n') ~= number then", "if false then"}},
		"a fence by ID":  {{"if not at or field(at, 'n') ~= number then", "if not at then"}},
		"no origin":      {{"if ARGV[1] ~= '' and index[2] ~= ARGV[1] then return {'gap'} end -- a", "-- a"}},
	})
}

// What others wrote there is an error, not an empty log.
func TestForeignData(t *testing.T) {
	server := testserver.StartRedis(t)
	s := connect(t, server.Addr, redisstore.Config{})
	for _, words := range [][]string{
		{"SET", "sealed:revocations", "x"}, {"XADD", "sealed:revocations", "*", "a", "b"},
		{"XADD", "sealed:revocations", "*", "p", "0-0", "n", "0123456789abcdef", "r", "sxxx"},
		{"SET", "{sealed:revocations}:index", "x"}, {"HSET", "{sealed:revocations}:index", "v", "x"},
	} {
		server.MustDo("FLUSHALL")
		_, empty, err := readAll(t, s, "")
		if err != nil {
			t.Fatal(err)
		}
		server.MustDo(words...)
		if _, err := s.Read(t.Context(), empty); err == nil || errors.Is(err, revoke.ErrGap) {
			t.Errorf("%q: %v, want an error", words, err)
		}
	}
	for _, words := range [][]string{{"SET", "sealed:keys", "x"}, {"HSET", "sealed:keys", "d", "x"}, {"HSET", "sealed:keys", "v", "x"}} {
		server.MustDo("FLUSHALL")
		server.MustDo(words...)
		if d, v, err := s.Load(t.Context()); err == nil {
			t.Errorf("%q: Load: %q, version %q, want an error", words, d, v)
		}
	}
}

func TestNew(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	for _, config := range []redisstore.Config{{Replicas: -1}, {WaitTimeout: -1}, {WaitTimeout: time.Millisecond - 1}} {
		if _, err := redisstore.New(client, config); err == nil {
			t.Errorf("New accepts %+v", config)
		}
	}
	if _, err := redisstore.New(nil, redisstore.Config{}); err == nil {
		t.Error("New accepts no client")
	}
}

// With Replicas, a write that too few have is not acknowledged.
func TestReplicas(t *testing.T) {
	server := testserver.StartRedis(t)
	s := connect(t, server.Addr, redisstore.Config{Replicas: 1, WaitTimeout: 300 * time.Millisecond})
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err == nil || !strings.Contains(err.Error(), "0 replicas") {
		t.Errorf("Append without replicas: %v", err)
	}
	if _, err := s.Save(t.Context(), []byte("x"), ""); err == nil || !strings.Contains(err.Error(), "0 replicas") {
		t.Errorf("Save without replicas: %v", err)
	}
	host, port, _ := strings.Cut(server.Addr, ":")
	replica := testserver.StartRedis(t, "--replicaof", host+" "+port)
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := s.Append(t.Context(), []sealed.Revocation{revocation(2)})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Append with a replica: %v", err)
		}
	}
	page, err := connect(t, replica.Addr, redisstore.Config{}).Read(t.Context(), "")
	if err != nil || page.Revocations[len(page.Revocations)-1].ID != (sealed.ID{2, 1}) {
		t.Errorf("the replica does not have what was acknowledged: %+v, %v", page, err)
	}
}

// A keyring on Redis, end to end.
func TestKeysOnRedis(t *testing.T) {
	server := testserver.StartRedis(t)
	wrapping := []sealed.Key{sealed.GenerateKey()}
	var managers []*sealed.Manager[string]
	for range 2 {
		keys, err := keystore.Open(t.Context(), connect(t, server.Addr, redisstore.Config{}), wrapping, keystore.Policy{CreateIfEmpty: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(keys.Close)
		m, err := sealed.New(keys.Keyring(), sealed.Config[string]{Purpose: "test"})
		if err != nil {
			t.Fatal(err)
		}
		managers = append(managers, m)
	}
	token, err := managers[0].Seal("alice")
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := managers[1].Open(t.Context(), token); err != nil || got != "alice" {
		t.Errorf("the other instance opens it as %q, %v", got, err)
	}
	// Nothing on the server is a session key.
	dump, err := filepath.Glob(filepath.Join(server.Folder(), "appendonlydir", "*"))
	if err != nil || len(dump) == 0 {
		t.Fatalf("no files of the server: %v", err)
	}
	for _, file := range dump {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), "sealed-key") {
			t.Errorf("%s holds a key, or cannot be read: %v", file, err)
		}
	}
}

// An entry that somebody has deleted is no reason to stop: who comes to the hole
// reads what there is, and gives back what is missing.
func TestHole(t *testing.T) {
	server := testserver.StartRedis(t)
	a := connect(t, server.Addr, redisstore.Config{})
	r, err := revoke.Follow(a, revoke.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	if err := r.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	for n := range byte(5) {
		if err := r.Revoke(t.Context(), revocation(n)); err != nil {
			t.Fatal(err)
		}
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	entries, err := client.XRange(t.Context(), "sealed:revocations", "-", "+").Result()
	if err != nil || len(entries) < 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if err := client.XDel(t.Context(), "sealed:revocations", entries[2].ID).Err(); err != nil {
		t.Fatal(err)
	}
	late, err := revoke.Follow(connect(t, server.Addr, redisstore.Config{}), revoke.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close(context.Background()) })
	if err := late.Ready(soon(t)); err != nil {
		t.Errorf("an instance that starts: %v", err)
	}
	if err := r.Refresh(t.Context()); err != nil || r.Health() != nil {
		t.Errorf("one that runs: %v, %v", err, r.Health())
	}
}

// Waiting for replicas, a write is read before it is acknowledged. It is written
// once all the same.
func TestReplicasWriteOnce(t *testing.T) {
	server := testserver.StartRedis(t)
	host, port, _ := strings.Cut(server.Addr, ":")
	replica := testserver.StartRedis(t, "--replicaof", host+" "+port)
	replica.Await("master_link_status:up")
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { client.Close() })
	r, err := revoke.Follow(connect(t, server.Addr, redisstore.Config{Replicas: 1}), revoke.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	if err := r.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	for n := range byte(50) {
		if err := r.Revoke(t.Context(), revocation(n)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Second) // three polls of a real clock
	if n, err := client.XLen(t.Context(), "sealed:revocations").Result(); err != nil || n != 50 {
		t.Errorf("%d entries of 50 revocations, %v", n, err)
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Scripts are sent to a server that does not know them, and not again.
func TestScriptsAreSentOnce(t *testing.T) {
	server := testserver.StartRedis(t)
	proxy := testserver.NewProxy(t, server.Addr)
	s := connect(t, proxy.Addr, redisstore.Config{})
	for range 2 {
		server.MustDo("SCRIPT", "FLUSH")
		if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err != nil {
			t.Fatal(err)
		}
		page, err := s.Read(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		before := proxy.Traffic()
		const times = 50
		for range times {
			if _, err := s.Read(t.Context(), page.Cursor); err != nil {
				t.Fatal(err)
			}
		}
		if each := (proxy.Traffic().Asked - before.Asked) / times; each == 0 || each > 250 {
			t.Errorf("a reading sends %d bytes", each)
		}
	}
}

// onRedis calls f with the address of a server that ends with it.
func onRedis(f func(addr string) error) {
	if err := testserver.Guard(func(h *testserver.Host) error { return f(testserver.StartRedis(h).Addr) }); err != nil {
		panic(err)
	}
}
