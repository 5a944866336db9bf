package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// faults is what can happen to a Redis server.
func faults(server *testserver.Redis) []faulttest.Fault {
	return []faulttest.Fault{
		faulttest.New("killed, and restarted with its data", func(w *faulttest.World) {
			server.Kill()
			time.Sleep(faulttest.Bound)
			server.Restart()
		}, revoke.EventFailed),
		faulttest.New("killed, and restarted without", func(w *faulttest.World) {
			w.Lose(func() {
				server.Kill()
				server.Forget()
				server.Restart()
			})
		}, faulttest.Restored...),
		faulttest.New("stopped for twice the bound", func(w *faulttest.World) {
			server.Stop()
			time.Sleep(2 * faulttest.Bound)
			server.Continue()
		}, faulttest.Stale...),
		faulttest.New("emptied", func(w *faulttest.World) {
			w.Lose(func() { server.MustDo("FLUSHALL") })
		}, faulttest.Restored...),
		faulttest.New("trimmed past the cursor of one that is cut off", func(w *faulttest.World) {
			w.Proxies[0].Set(testserver.BlackHole)
			time.Sleep(faulttest.Bound)
			server.MustDo("XTRIM", "sealed:revocations", "MAXLEN", "1")
			w.Proxies[0].Set(testserver.Pass)
		}, revoke.EventGap),
		faulttest.New("a replica promoted that lacks what was acknowledged", func(w *faulttest.World) {
			replication := testserver.NewProxy(w.T, server.Addr)
			host, port, _ := strings.Cut(replication.Addr, ":")
			replica := testserver.StartRedis(w.T, "--replicaof", host+" "+port)
			replica.Await("master_link_status:up")
			replication.Set(testserver.BlackHole)
			time.Sleep(time.Second)
			w.Lose(func() {
				w.All(testserver.Refuse)
				server.Kill()
				replica.MustDo("REPLICAOF", "NO", "ONE")
				for _, p := range w.Proxies {
					p.Retarget(replica.Addr)
				}
			})
		}, faulttest.Restored...),
	}
}

// Three replicas follow the log on a real server while that, or the network, fails.
func TestFaults(t *testing.T) {
	for n, fault := range append(faults(nil), faulttest.Network()...) {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			server := testserver.StartRedis(t)
			if own := faults(server); n < len(own) {
				fault = own[n]
			}
			faulttest.Run(t, server.Addr, func(t *testing.T, addr string) revoke.Log {
				return connect(t, addr, redisstore.Config{})
			}, fault)
		})
	}
}
