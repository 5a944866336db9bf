// Cluster runs three instances of the shop on one Redis, behind nginx, and shows on
// one page what each knows: its keys, and its copy of the revocation list. Log in,
// keep a copy of your cookie on that page, log out, and see that no instance takes
// the copy any more.
//
//	go run .
//
// Redis is that of REDIS_URL, else the local redis-server is started; without nginx
// the program shares out the requests itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/examples/shop/app"
	"example.com/sealed/keystore"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	balancer := flag.String("balancer", "auto", "nginx, own, or auto for nginx if it is installed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *balancer); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, balancer string) error {
	folder, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	client, endRedis, err := openRedis(ctx, os.Getenv("REDIS_URL"), folder)
	if err != nil {
		return err
	}
	defer endRedis()

	c := &cluster{wrapping: sealed.GenerateKey(), client: client}
	if text := os.Getenv("SESSION_WRAPPING_KEY"); text != "" {
		if c.wrapping, err = sealed.ParseKey(text); err != nil {
			return fmt.Errorf("SESSION_WRAPPING_KEY: %w", err)
		}
	} else if os.Getenv("REDIS_URL") != "" {
		return errors.New("a Redis that lasts needs a wrapping key that does: set SESSION_WRAPPING_KEY to what \"sealed key\" prints")
	}
	defer c.close()
	for n := range 3 {
		if err := c.start(ctx, fmt.Sprint("shop-", n+1)); err != nil {
			return err
		}
	}
	return c.balance(ctx, addr, balancer, folder)
}

// A cluster is three shops.
type cluster struct {
	client    *redis.Client
	wrapping  sealed.Key
	instances []*instance
	copied    atomic.Pointer[string] // the cookie that somebody keeps a copy of
}

// An instance is one shop, with all that an instance has: as if in a process, and
// on a machine, of its own.
type instance struct {
	name        string
	addr        string
	keys        *keystore.Syncer
	revocations *revoke.Replica
	server      *http.Server
}

func (c *cluster) start(ctx context.Context, name string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("instance", name)
	store, err := redisstore.New(c.client, redisstore.Config{})
	if err != nil {
		return err
	}
	policy := keystore.Policy{ // quick, so that one can watch
		CreateIfEmpty: true, // the demo starts with an empty Redis
		RotateEvery:   7 * 24 * time.Hour, Lead: 5 * time.Second, Retain: app.LongestLife + 24*time.Hour, Poll: time.Second,
		Observe: func(e keystore.Event) { log.Info("keys", "event", e.Kind, "key", e.KeyID, "error", e.Err) },
	}
	metrics, metricsPage, err := newMetrics()
	if err != nil {
		return err
	}
	policy.Observe = metrics.Keys(policy.Observe)
	i := &instance{name: name}
	if i.keys, err = keystore.Open(ctx, store, []sealed.Key{c.wrapping}, policy); err != nil {
		return err
	}
	i.revocations, err = revoke.Follow(metrics.Log(store), revoke.Policy{
		Observe: metrics.Revocations(func(e revoke.Event) { log.Info("revocations", "event", e.Kind, "error", e.Err) }),
	})
	if err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := i.revocations.Ready(ready); err != nil {
		return err
	}
	if _, err := metrics.WatchReplica(i.revocations); err != nil {
		return err
	}
	if _, err := metrics.WatchKeys(i.keys); err != nil {
		return err
	}
	shop, err := app.New(app.Config{
		Keys: i.keys, Policy: policy, Where: "The session keys are in Redis, sealed under a wrapping key that it does not have.",
		Revocations: i.revocations, Instance: name, Log: log, Observe: metrics.Sessions(nil),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	i.addr = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/", shop)
	mux.HandleFunc("GET /cluster", c.page)
	mux.Handle("POST /cluster/copy", http.NewCrossOriginProtection().Handler(http.HandlerFunc(c.copyCookie)))
	mux.Handle("GET /metrics", metricsPage)                                       // a real site has it on an address of its own
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { // readiness
		if err := i.revocations.Serving(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go i.server.Serve(listener)
	c.instances = append(c.instances, i)
	return nil
}

func (c *cluster) close() {
	for _, i := range c.instances {
		i.server.Close()
		// What was revoked here and the log does not have yet is handed over.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := i.revocations.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, i.name, err)
		}
		cancel()
		i.keys.Close()
	}
}

// balance shares out the requests until ctx is done.
func (c *cluster) balance(ctx context.Context, addr, balancer, folder string) error {
	path, err := exec.LookPath("nginx")
	switch {
	case balancer == "nginx" && err != nil:
		return fmt.Errorf("no nginx: %w", err)
	case balancer == "nginx" || balancer == "auto" && err == nil:
		return c.nginx(ctx, path, addr, folder)
	case balancer != "own" && balancer != "auto":
		return fmt.Errorf("no balancer %q: there are nginx, own and auto", balancer)
	}
	var next atomic.Uint64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		i := c.instances[next.Add(1)%uint64(len(c.instances))]
		r.SetURL(&url.URL{Scheme: "http", Host: i.addr})
		r.Out.Host = r.In.Host // which the shop compares with Origin
	}}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	c.announce(listener.Addr().String(), "this program")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (c *cluster) announce(addr, balancer string) {
	for _, i := range c.instances {
		fmt.Printf("%s listens on http://%s\n", i.name, i.addr)
	}
	fmt.Printf("The cluster is open at http://%s/cluster, behind %s (log in as alice or bob, password demo)\n", addr, balancer)
}
