package otelsealed_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/otelsealed"
	"example.com/sealed/revoke"
)

// collected is what a reader has collected, by name and attributes.
type collected map[string]float64

// collect collects all metrics. Histograms are given by their counts.
func collect(t *testing.T, reader *metric.ManualReader) collected {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := collected{}
	name := func(n string, set attribute.Set) string {
		if text := set.Encoded(attribute.DefaultEncoder()); text != "" {
			n += "{" + text + "}"
		}
		return n
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[name(m.Name, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					got[name(m.Name, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					got[name(m.Name, p.Attributes)] = p.Value
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					got[name(m.Name, p.Attributes)] = float64(p.Count)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					got[name(m.Name, p.Attributes)] = float64(p.Count)
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	return got
}

func (c collected) want(t *testing.T, name string, want float64) {
	t.Helper()
	if got, ok := c[name]; !ok || got != want {
		t.Errorf("%s is %v (there: %t), want %v", name, got, ok, want)
	}
}

// lossy is a log that fails on demand.
type lossy struct {
	revoke.Memory
	down atomic.Bool
}

var errDown = errors.New("down")

func (l *lossy) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	if l.down.Load() {
		return revoke.Page{}, errDown
	}
	return l.Memory.Read(ctx, cursor)
}

func (l *lossy) Inspect(context.Context) error { return errors.New("unsafe") }

// What happens to sessions, list and keys is in the metrics, and nothing of a visitor.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := metric.NewManualReader()
		provider := metric.NewMeterProvider(metric.WithReader(reader))
		defer provider.Shutdown(context.Background())
		m, err := otelsealed.New(provider)
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var log lossy
		var told atomic.Int32
		replica, err := revoke.Follow(m.Log(&log), revoke.Policy{AcceptStale: true, Observe: m.Revocations(func(revoke.Event) { told.Add(1) })})
		must(err)
		defer replica.Close(t.Context())
		must(replica.Ready(t.Context()))
		stopReplica, err := m.WatchReplica(replica)
		must(err)
		keys, err := keystore.Open(t.Context(), new(keystore.Memory), []sealed.Key{sealed.GenerateKey()}, keystore.Policy{CreateIfEmpty: true, Observe: m.Keys(nil)})
		must(err)
		defer keys.Close()
		stopKeys, err := m.WatchKeys(keys)
		must(err)
		sessions, err := sealed.New(keys.Keyring(), sealed.Config[string]{Revocations: replica, Observe: m.Sessions(nil)})
		must(err)
		visit := func(cookie string, f func(context.Context)) string {
			r := httptest.NewRequest("GET", "/", nil)
			if cookie != "" {
				r.Header.Set("Cookie", cookie)
			}
			w := httptest.NewRecorder()
			sessions.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(r.Context()) })).ServeHTTP(w, r)
			for _, c := range w.Result().Cookies() {
				return c.Name + "=" + c.Value
			}
			return ""
		}
		cookie := visit("", func(ctx context.Context) { must(sessions.Update(ctx, func(s *string) { *s = "alice" })) })
		visit(cookie, func(ctx context.Context) { must(sessions.Destroy(ctx)) })
		visit(cookie, func(ctx context.Context) { sessions.Get(ctx) })
		time.Sleep(2 * time.Second)

		got := collect(t, reader)
		got.want(t, "sealed.session.events{event=sealed}", 1)
		got.want(t, "sealed.session.events{event=destroyed}", 1)
		got.want(t, "sealed.session.events{event=rejected,reason=revoked}", 1)
		got.want(t, "sealed.session.cookie.size", 1)
		got.want(t, "sealed.list.events{event=ready}", 1)
		got.want(t, "sealed.list.events{event=unsafe}", 1)
		got.want(t, "sealed.list.healthy", 1)
		got.want(t, "sealed.list.serving", 1)
		got.want(t, "sealed.list.entries", 1)
		got.want(t, "sealed.list.unsent", 0)
		got.want(t, "sealed.list.unverified", 0)
		got.want(t, "sealed.list.clock.offset", 0)
		got.want(t, "sealed.log.call.duration{call=append,failed=false}", 1)
		got.want(t, "sealed.log.read", 1)
		got.want(t, "sealed.keys.events{event=created}", 2)
		got.want(t, "sealed.keys.healthy", 1)
		got.want(t, "sealed.keys.count{state=primary}", 1)
		got.want(t, "sealed.keys.count{state=pending}", 1)
		got.want(t, "sealed.keys.count{state=revoked}", 0)
		if age := got["sealed.list.age"]; age < 0 || age > 1.5 {
			t.Errorf("sealed.list.age %v", age)
		}
		if got["sealed.keys.sealing.age"] < 2 {
			t.Errorf("sealed.keys.sealing.age %v", got["sealed.keys.sealing.age"])
		}

		log.down.Store(true)
		time.Sleep(10 * time.Second)
		other := visit("", func(ctx context.Context) { must(sessions.Update(ctx, func(s *string) { *s = "bob" })) })
		visit(other, func(ctx context.Context) {
			if s, err := sessions.Get(ctx); err != nil || s != "bob" {
				t.Errorf("with AcceptStale: %q, %v", s, err)
			}
		})
		got = collect(t, reader)
		got.want(t, "sealed.list.healthy", 0)
		got.want(t, "sealed.list.serving", 1)
		got.want(t, "sealed.list.events{event=stale}", 1)
		if got["sealed.list.unverified"] < 1 || got["sealed.list.age"] < 9 || got["sealed.log.call.duration{call=read,failed=true}"] < 3 {
			t.Errorf("while the log is down: %v", got)
		}
		if told.Load() < 3 {
			t.Errorf("the function behind was told of %d events", told.Load())
		}
		must(stopReplica())
		must(stopKeys())
		if _, ok := collect(t, reader)["sealed.list.entries"]; ok {
			t.Error("a replica is watched after stop")
		}
	})
}
