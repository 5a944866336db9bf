package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// A plan is how long and how much is measured.
type plan struct {
	rounds      int           // interleaved, for times in process and over HTTP
	inProcess   time.Duration // an operation in a round
	http        time.Duration
	connections []int
	distances   []time.Duration // round trips
	sessions    []int           // for memory
	revocations []int
	lonely      int           // logouts, each by itself
	requests    int           // for bytes on the wire, on average
	idle        time.Duration // for the traffic while nobody visits
	well, down  time.Duration // of outages: before, and while
	visitors    int
	sizes       []int
}

var thorough = plan{
	rounds: 7, inProcess: 200 * time.Millisecond, http: 500 * time.Millisecond,
	connections: []int{1, 16, 128},
	distances:   []time.Duration{0, 200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond},
	sessions:    []int{10_000, 100_000, 1_000_000},
	revocations: []int{50_000, 1_000_000},
	lonely:      400, requests: 2000, idle: 10 * time.Second,
	well: 4 * time.Second, down: 10 * time.Second, visitors: 20,
	sizes: []int{100, 400, 1000, 2000, 4000, 8000, 16000},
}

// quick shows that all works. Its figures are worth nothing, but are there: so many
// revocations that what they take outweighs the buffers that come and go.
var quick = plan{
	rounds: 2, inProcess: 5 * time.Millisecond, http: 20 * time.Millisecond,
	connections: []int{1, 4},
	distances:   []time.Duration{0, time.Millisecond},
	sessions:    []int{100, 1000},
	revocations: []int{2000, 20_000},
	lonely:      60, requests: 20, idle: 1200 * time.Millisecond,
	well: time.Second, down: 2 * time.Second, visitors: 5,
	sizes: []int{100, 4000, 16000},
}

// A run is one run of the benchmark, under way.
type run struct {
	*testserver.Host
	plan
	ctx      context.Context
	rng      *rand.Rand
	progress *progress
	results  *results.Results

	redisAddr   string
	postgresURL func(addr string) string // through a proxy or not
	pgAddr      string
	redisServer *testserver.Redis    // nil if it was taken by address
	pgServer    *testserver.Postgres // likewise
	redis       *redis.Client
	postgres    *pgxpool.Pool
	key         string
}

// A phase is a part of a run.
type phase struct {
	name string
	do   func(*run) error
}

// Phases of a run, in their order.
var phases = []phase{
	{"process", (*run).inProcess},
	{"limit", (*run).nearLimit},
	{"http", (*run).overHTTP},
	{"protocols", (*run).overProtocols},
	{"node", (*run).onNode},
	{"network", (*run).atDistance},
	{"wire", (*run).onTheWire},
	{"sizes", (*run).grow},
	{"outage", (*run).outages},
	{"memory", (*run).memory},
	{"revocations", (*run).revoked},
	{"following", (*run).following},
}

// environment returns where a contender runs: at the stores, or at proxies to them.
func (r *run) environment(redisAddr, pgAddr string) contender.Environment {
	return contender.Environment{Redis: redisAddr, Postgres: r.postgresURL(pgAddr), Key: r.key}
}

func (r *run) stores() contender.Environment { return r.environment(r.redisAddr, r.pgAddr) }

// with starts a process for each contender, has f do something with them, and ends
// them.
func (r *run) with(contenders []contender.Contender, e contender.Environment, f func([]*child) error) error {
	return testserver.Guard(func(h *testserver.Host) error {
		var children []*child
		for _, c := range contenders {
			children = append(children, r.startChild(h, c, e))
		}
		return f(children)
	})
}

// interleave does something with each of some children in rounds, in another order
// each time: what drifts on the machine meets all alike.
func (r *run) interleave(what string, rounds int, children []*child, f func(*child) error) error {
	for round := range rounds {
		order := slices.Clone(children)
		r.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for i, x := range order {
			r.say("%s: round %d of %d, %d of %d: %s", what, round+1, rounds, i+1, len(order), x.Name)
			if err := f(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyStores empties the stores, which belong to this run.
func (r *run) emptyStores() error {
	ctx := r.ctx
	if err := r.redis.FlushDB(ctx).Err(); err != nil {
		return err
	}
	tables, err := r.sessionTables()
	if err == nil {
		_, err = r.postgres.Exec(ctx, "TRUNCATE "+strings.Join(tables, ", "))
	}
	return err
}

// sessionTables returns the tables of sessions that there are: those of Node make their own.
func (r *run) sessionTables() ([]string, error) {
	rows, err := r.postgres.Query(r.ctx, "SELECT name FROM unnest(ARRAY['sessions', 'node_sessions']) AS name WHERE to_regclass(name) IS NOT NULL")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// openStores starts the stores, or takes those whose addresses are given. Those must
// be empty: they are emptied again and again.
func (r *run) openStores(redisAddr, postgresURL string) error {
	ctx := r.ctx
	if r.redisAddr = redisAddr; redisAddr == "" {
		r.say("starting redis-server")
		// Nothing on disk: the fastest that it can be.
		r.redisServer = testserver.StartRedis(r, "--appendonly", "no")
		r.redisAddr = r.redisServer.Addr
	}
	r.redis = redis.NewClient(&redis.Options{Addr: r.redisAddr})
	r.Cleanup(func() { r.redis.Close() })
	n, err := r.redis.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("asking Redis: %w", err)
	}
	if n > 0 {
		return fmt.Errorf("the Redis at %s has %d keys: the benchmark needs one of its own, which it empties", r.redisAddr, n)
	}
	if err := r.openPostgres(ctx, postgresURL); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}

func (r *run) openPostgres(ctx context.Context, url string) error {
	if url == "" {
		r.say("starting PostgreSQL")
		// What it comes with, and room for all connections.
		r.pgServer = testserver.StartPostgres(r, "-c", "shared_buffers=128MB", "-c", "max_connections=300")
		r.pgAddr = r.pgServer.Addr
		r.postgresURL = func(addr string) string { return "postgres://postgres@" + addr + "/postgres?sslmode=disable" }
	} else if err := r.takePostgres(url); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, r.postgresURL(r.pgAddr))
	if err != nil {
		return err
	}
	r.postgres = pool
	r.Cleanup(pool.Close)
	tables, err := r.sessionTables()
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		return fmt.Errorf("there is a table %s already: the benchmark needs a database of its own, whose tables it empties and drops", tables[0])
	}
	r.Cleanup(func() { pool.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS sessions, node_sessions") })
	return contender.MakeTable(ctx, pool)
}

// newRun returns a run that has its stores.
func newRun(ctx context.Context, h *testserver.Host, o options, progress *progress) (*run, error) {
	r := &run{
		Host: h, plan: thorough, ctx: ctx, rng: rand.New(rand.NewPCG(o.seed, 0)), progress: progress,
		results: &results.Results{}, key: sealed.GenerateKey().Text(),
	}
	if o.quick {
		r.plan = quick
	}
	return r, r.openStores(o.redis, o.postgres)
}

// say says what is under way. It does not return if that is to end.
func (r *run) say(format string, args ...any) {
	if r.ctx.Err() != nil {
		r.Fatal("interrupted")
	}
	r.progress.say(format, args...)
}

// takePostgres takes a server by its URL.
func (r *run) takePostgres(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("the URL must be postgres://USER@HOST:PORT/DATABASE")
	}
	if r.pgAddr = u.Host; u.Port() == "" {
		r.pgAddr += ":5432"
	}
	r.postgresURL = func(addr string) string {
		through := *u
		through.Host = addr
		return through.String()
	}
	return nil
}
