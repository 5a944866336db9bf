package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/bench/scale"
	"example.com/sealed/internal/testserver"
)

// The program starts itself for each contender.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveArgument {
		exit(serve(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

func status(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "status"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The whole program, with little of everything: each part has figures of each contender,
// and what is written shows them.
func TestProgram(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	var out bytes.Buffer
	if err := bench(t.Context(), options{quick: true, seed: 3, out: folder}, &out, status(t)); err != nil {
		t.Fatal(err)
	}
	r, err := results.Read(filepath.Join(folder, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	complete(t, r)
	for _, name := range []string{"Time of one operation in process", "Memory of live sessions", contender.SCSPostgres} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("the terminal does not show %q", name)
		}
	}
	written := read(t, filepath.Join(folder, "benchmarks.md"))
	if err := os.Remove(filepath.Join(folder, "benchmarks.md")); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), options{render: true, out: folder}, io.Discard, status(t)); err != nil {
		t.Fatal(err)
	}
	if again := read(t, filepath.Join(folder, "benchmarks.md")); !bytes.Equal(again, written) {
		t.Error("-render writes another page than the run")
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// complete checks that each part of the results is there, and says what it must
// whatever the machine.
func complete(t *testing.T, r *results.Results) {
	t.Helper()
	n := len(contender.All)
	for what, x := range map[string][2]int{
		"InProcess":   {len(r.InProcess), n * len(contender.Operations)},
		"HTTP":        {len(r.HTTP), n * 3 * len(quick.connections)},
		"Network":     {len(r.Network), 4 * 4 * len(quick.distances)},
		"Wire":        {len(r.Wire), n * len(contender.Operations)},
		"Idle":        {len(r.Idle), 3},
		"Sizes":       {len(r.Sizes), 6 * len(quick.sizes)},
		"Limit":       {len(r.Limit), 2 * (5 + len(contender.Limits))},
		"Protocols":   {len(r.Protocols), 7 * len(protocolRivals)},
		"Outages":     {len(r.Outages), 2 * len(watched())},
		"Losses":      {len(r.Losses), len(watched())},
		"Memory":      {len(r.Memory), (n - 1 + len(contender.OnNode) - 1) * len(quick.sessions)},
		"Revocations": {len(r.Revocations), 2 * len(quick.revocations)},
		"Following":   {len(r.Following), 1},
		"Servers":     {len(r.About.Servers), 3},
		"Node":        {len(r.Node), 3 * (len(nodeRivals) + len(contender.OnNode))},
		"NodeCookies": {len(r.NodeCookies), len(nodeRivals) + len(contender.OnNode)},
	} {
		if x[0] != x[1] {
			t.Errorf("%s has %d rows, want %d", what, x[0], x[1])
		}
	}
	for _, c := range r.InProcess {
		if c.NS.Median <= 0 || c.NS.Low > c.NS.Median || c.NS.Median > c.NS.High {
			t.Errorf("%s, %s: %+v", c.Contender, c.Operation, c.NS)
		}
	}
	for _, d := range r.Network {
		asks := d.Contender == contender.SCSRedis || d.Contender == contender.SCSPostgres ||
			d.Contender == contender.SealedRedis && d.Operation == contender.Logout
		if d.RTTMillis >= 1 && asks != (d.Millis.Median >= 0.9*d.RTTMillis) {
			t.Errorf("%s, %s, with the store %v ms off: %v ms; does it ask the store: %v", d.Contender, d.Operation, d.RTTMillis, d.Millis.Median, asks)
		}
	}
	for _, s := range r.Sizes {
		if refused := s.Error != ""; refused != (s.Contender == contender.Gorilla && s.Notes > 3000) {
			t.Errorf("%s with %d bytes: %q", s.Contender, s.Notes, s.Error)
		}
	}
	for _, l := range r.Losses {
		c, err := contender.Find(l.Contender)
		if err != nil {
			t.Fatal(err)
		}
		stays := c.Store == "" || strings.HasPrefix(c.Name, contender.Sealed)
		if want := l.Visitors; stays != (l.LoggedIn == want) {
			t.Errorf("%s, when %s: %d of %d are logged in", l.Contender, l.What, l.LoggedIn, want)
		}
	}
	for _, o := range r.Outages {
		c, err := contender.Find(o.Contender)
		if err != nil {
			t.Fatal(err)
		}
		asks := !strings.HasPrefix(c.Name, contender.Sealed) && (c.Store == contender.OnRedis || c.Store == contender.OnPostgres)
		if s := down(o); asks == (s.Served == s.Visits()) {
			t.Errorf("%s, while the store is away: %+v", o.Contender, s)
		}
	}
}

// The figures that are shown are those of results.json: the page, its charts, and the
// README.
func TestPagesAreTrue(t *testing.T) {
	r, err := results.Read(repository.results)
	if err != nil {
		t.Fatal(err)
	}
	want, err := page(r)
	if err != nil {
		t.Fatal(err)
	}
	const mend = ": run go run . -render"
	if !bytes.Equal(read(t, repository.page), want) {
		t.Error("docs/benchmarks.md is not what results.json gives" + mend)
	}
	if want, err = scale.Page(r, scaleSeed); err != nil || !bytes.Equal(read(t, repository.scale), want) {
		t.Errorf("docs/scale.md is not what results.json gives (%v)%s", err, mend)
	}
	text := read(t, repository.readme)
	if want, err = inReadme(text, r); err != nil || !bytes.Equal(text, want) {
		t.Errorf("the README's figures are not those of results.json (%v)%s", err, mend)
	}
	for _, c := range charts {
		drawn, err := c.svgs(r)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range drawn {
			if !bytes.Equal(read(t, filepath.Join(filepath.Dir(repository.page), chartFolder, name)), want) {
				t.Errorf("%s is not what results.json gives%s", name, mend)
			}
			if err := wellFormed(want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if r.About.Command != "go run ." || !r.About.OwnStores {
		t.Errorf("the figures are of %q", r.About.Command)
	}
}

func wellFormed(text []byte) error {
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// The memory of a PostgreSQL that was taken by its URL is no figure.
func TestMemoryNotMeasured(t *testing.T) {
	r, err := results.Read(repository.results)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Memory {
		if r.Memory[i].Contender == contender.SCSPostgres {
			r.Memory[i].Store = 0
		}
	}
	shown := memoryTable(r).markdown()
	if n := strings.Count(shown, "/ "+results.NotMeasured); n != len(thorough.sessions) {
		t.Errorf("%d times not measured:\n%s", n, shown)
	}
	if shown := (facts{r}).memoryOf(contender.SCSPostgres); !strings.Contains(shown, " in the application, and ") {
		t.Error(shown)
	}
	for _, c := range charts {
		drawn, err := c.svgs(r)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range drawn {
			if strings.HasPrefix(name, "memory") && bytes.Contains(text, []byte(contender.SCSPostgres)) {
				t.Errorf("%s shows %s", name, contender.SCSPostgres)
			}
		}
	}
}

// Stores that somebody else uses are not touched.
func TestStoresInUse(t *testing.T) {
	server := testserver.StartRedis(t)
	postgres := testserver.StartPostgres(t, "-c", "max_connections=300")
	server.MustDo("SET", "somebody", "else")
	o := options{quick: true, redis: server.Addr, postgres: postgres.URL(postgres.Addr)}
	err := bench(t.Context(), o, io.Discard, status(t))
	if err == nil || !strings.Contains(err.Error(), "1 keys") {
		t.Errorf("a Redis with a key: %v", err)
	}
	if got := server.MustDo("EXISTS", "somebody"); got != ":1" {
		t.Errorf("the key: %q", got)
	}
	server.MustDo("FLUSHALL")
	other := redisClient(t, server.Addr, 1)
	if err := other.Set(t.Context(), "somebody", "else", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), options{quick: true, only: "revocations", redis: server.Addr, postgres: o.postgres}, io.Discard, status(t)); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Get(t.Context(), "somebody").Result(); got != "else" {
		t.Errorf("a key in another database of the same Redis: %q, %v", got, err)
	}
	pool, err := pgxpool.New(t.Context(), o.postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE node_sessions (mine text); INSERT INTO node_sessions VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), o, io.Discard, status(t)); err == nil || !strings.Contains(err.Error(), "a table node_sessions already") {
		t.Errorf("a database with sessions of Node: %v", err)
	}
	var rows int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM node_sessions").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the table has %d rows, %v", rows, err)
	}
	if _, err := pool.Exec(t.Context(), "DROP TABLE node_sessions"); err != nil {
		t.Fatal(err)
	}
	sessions, end, err := contender.Select(contender.SCSPostgres)[0].Open(t.Context(), contender.Environment{Postgres: o.postgres})
	if err != nil || sessions == nil {
		t.Fatal(err)
	}
	end()
	if err := bench(t.Context(), o, io.Discard, status(t)); err == nil || !strings.Contains(err.Error(), "a table sessions already") {
		t.Errorf("a database with sessions: %v", err)
	}
}

func redisClient(t *testing.T, addr string, db int) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, DB: db})
	t.Cleanup(func() { c.Close() })
	return c
}

// Options that make no sense are errors, and so is an interrupted run.
func TestNoRun(t *testing.T) {
	if err := bench(t.Context(), options{only: "process,nothing"}, io.Discard, status(t)); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("an unknown part: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bench(ctx, options{quick: true}, io.Discard, status(t)); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("an interrupted run: %v", err)
	}
	if err := bench(t.Context(), options{render: true, out: t.TempDir()}, io.Discard, status(t)); err == nil {
		t.Error("no results to render, and no error")
	}
}

// A spread is the median and the quartiles.
func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   results.Spread
	}{
		{nil, results.Spread{}},
		{[]float64{7}, results.Spread{Median: 7, Low: 7, High: 7}},
		{[]float64{5, 1, 4, 2, 3}, results.Spread{Median: 3, Low: 2, High: 4}},
		{[]float64{4, 1, 3, 2}, results.Spread{Median: 2.5, Low: 1.75, High: 3.25}},
	} {
		if got := results.NewSpread(tt.values); got != tt.want {
			t.Errorf("NewSpread(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

// Figures are written with three digits that count, and percentiles only where ten
// requests lie beyond.
func TestFigures(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{number(0), "0"}, {number(0.01234), "0.0123"}, {number(1.5), "1.50"}, {number(12.34), "12.3"}, {number(999.6), "1,000"},
		{number(1234567), "1,234,567"}, {number(-1234), "-1,234"},
		{size(999), "999 B"}, {size(-2500), "-2.50 KB"}, {size(3_210_000_000), "3.21 GB"},
		{duration(0.05), "50.0 ns"}, {duration(12), "12.0 µs"}, {duration(2500), "2.50 ms"}, {duration(3e6), "3.00 s"},
		{tick("0.100 µs"), "0.1 µs"}, {tick("1.00 ms"), "1 ms"}, {tick("100 B"), "100 B"}, {tick("2.50 KB"), "2.5 KB"}, {tick("10.0"), "10"},
		{percent(1, 3), "33 %"}, {percent(0, 0), "–"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	var few, many traffic
	for i := range 10_000 {
		many.micros = append(many.micros, float64(10_000-i))
		few.micros = many.micros[:min(len(many.micros), 9_999)]
	}
	if got := many.percentile(0.999); got != 9990 {
		t.Errorf("p99.9 of 1 to 10,000: %v", got)
	}
	if got := few.percentile(0.999); got != 0 {
		t.Errorf("p99.9 of too few: %v", got)
	}
}
