// Package otelsealed reports what sealed does as OpenTelemetry metrics:
//
//	metrics, err := otelsealed.New(provider)
//	revocations, err := revoke.Follow(metrics.Log(store), revoke.Policy{Observe: metrics.Revocations(nil)})
//	stop, err := metrics.WatchReplica(revocations)
//	keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{Observe: metrics.Keys(nil)})
//	stop, err = metrics.WatchKeys(keys)
//	sessions, err := sealed.New(keys.Keyring(), sealed.Config[Session]{Revocations: revocations, Observe: metrics.Sessions(nil)})
//
// No attribute has many values, or says anything of a visitor: there are no session IDs,
// subjects or tokens. Key IDs are not among them either.
//
// The metrics:
//
//	sealed.session.events       counter    event, reason: what happened to sessions
//	sealed.session.cookie.size  histogram  bytes of the Set-Cookie lines of a session, or of a token from Seal
//	sealed.list.events          counter    event: what Policy.Observe of the list is told
//	sealed.list.healthy         gauge      1 if Health is nil, else 0
//	sealed.list.serving         gauge      1 if Serving is nil, else 0
//	sealed.list.age             gauge      seconds since the last complete read was begun, 0 before the first
//	sealed.list.entries         gauge      in memory
//	sealed.list.unsent          gauge      revoked here, and not found in the log yet
//	sealed.list.unverified      counter    checks that a stale replica has let pass
//	sealed.list.clock.offset    gauge      seconds by which this clock is ahead of the log's
//	sealed.log.call.duration    histogram  call, failed: seconds that a call of the log took
//	sealed.log.read             counter    revocations read: how far loading has come, too
//	sealed.keys.events          counter    event: what Policy.Observe of the keys is told
//	sealed.keys.healthy         gauge      1 if Health is nil, else 0
//	sealed.keys.age             gauge      seconds since the last complete read was begun
//	sealed.keys.count           gauge      state: how many keys there are
//	sealed.keys.sealing.age     gauge      seconds since the key that seals was activated
package otelsealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

// Metrics has the instruments. Its methods, and what they return, may be called
// concurrently.
type Metrics struct {
	meter metric.Meter

	sessionEvents, listEvents, keyEvents, read metric.Int64Counter
	cookieSize                                 metric.Int64Histogram
	calls                                      metric.Float64Histogram
}

// New makes the instruments.
func New(provider metric.MeterProvider) (*Metrics, error) {
	m := &Metrics{meter: provider.Meter("example.com/sealed/otelsealed")}
	var errs []error
	counter := func(name, what, unit string) metric.Int64Counter {
		c, err := m.meter.Int64Counter(name, metric.WithDescription(what), metric.WithUnit(unit))
		errs = append(errs, err)
		return c
	}
	m.sessionEvents = counter("sealed.session.events", "What happened to sessions", "{event}")
	m.listEvents = counter("sealed.list.events", "What happened to the revocation list", "{event}")
	m.keyEvents = counter("sealed.keys.events", "What happened to the keys", "{event}")
	m.read = counter("sealed.log.read", "Revocations read from the log", "{revocation}")
	var err error
	m.cookieSize, err = m.meter.Int64Histogram("sealed.session.cookie.size", metric.WithUnit("By"),
		metric.WithDescription("Bytes of the Set-Cookie lines of a session"),
		metric.WithExplicitBucketBoundaries(128, 256, 512, 1024, 2048, 3072, 4093, 8192))
	errs = append(errs, err)
	m.calls, err = m.meter.Float64Histogram("sealed.log.call.duration", metric.WithUnit("s"),
		metric.WithDescription("How long calls of the revocation log take"),
		metric.WithExplicitBucketBoundaries(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3))
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("otelsealed: %w", err)
	}
	return m, nil
}

// Sessions returns a function for [sealed.Config].Observe, which then calls next, if that
// is not nil.
func (m *Metrics) Sessions(next func(context.Context, sealed.Event)) func(context.Context, sealed.Event) {
	return func(ctx context.Context, e sealed.Event) {
		attributes := []attribute.KeyValue{attribute.String("event", string(e.Kind))}
		if e.Reason != "" {
			attributes = append(attributes, attribute.String("reason", string(e.Reason)))
		}
		m.sessionEvents.Add(ctx, 1, metric.WithAttributes(attributes...))
		if e.Kind == sealed.EventSealed {
			m.cookieSize.Record(ctx, int64(e.Bytes))
		}
		if next != nil {
			next(ctx, e)
		}
	}
}

// Revocations returns a function for [revoke.Policy].Observe, which then calls next, if
// that is not nil.
func (m *Metrics) Revocations(next func(revoke.Event)) func(revoke.Event) {
	return observe(m.listEvents, func(e revoke.Event) string { return string(e.Kind) }, next)
}

// Keys returns a function for [keystore.Policy].Observe, which then calls next, if that is
// not nil.
func (m *Metrics) Keys(next func(keystore.Event)) func(keystore.Event) {
	return observe(m.keyEvents, func(e keystore.Event) string { return string(e.Kind) }, next)
}

func observe[E any](counter metric.Int64Counter, kind func(E) string, next func(E)) func(E) {
	return func(e E) {
		counter.Add(context.Background(), 1, metric.WithAttributes(attribute.String("event", kind(e))))
		if next != nil {
			next(e)
		}
	}
}

// WatchReplica reports a replica's Status whenever metrics are collected, until stop is
// called.
func (m *Metrics) WatchReplica(r *revoke.Replica) (stop func() error, err error) {
	g := gauges{meter: m.meter}
	healthy := g.int("sealed.list.healthy", "1 if the replica knows what was revoked everywhere", "")
	serving := g.int("sealed.list.serving", "1 if the replica answers as its policy says", "")
	age := g.float("sealed.list.age", "Time since the last complete read of the log was begun", "s")
	entries := g.int("sealed.list.entries", "Entries in memory", "{entry}")
	unsent := g.int("sealed.list.unsent", "Revoked here, and not found in the log yet", "{revocation}")
	offset := g.float("sealed.list.clock.offset", "By how much this clock is ahead of the log's", "s")
	unverified, err := m.meter.Int64ObservableCounter("sealed.list.unverified", metric.WithUnit("{session}"),
		metric.WithDescription("Sessions that a stale replica has let pass"))
	g.add(unverified, err)
	return g.watch(func(o metric.Observer) {
		s := r.Status()
		o.ObserveInt64(healthy, boolean(s.Health == nil))
		o.ObserveInt64(serving, boolean(r.Serving() == nil))
		o.ObserveFloat64(age, s.Age.Seconds())
		o.ObserveInt64(entries, int64(s.Entries))
		o.ObserveInt64(unsent, int64(s.Unsent))
		o.ObserveFloat64(offset, s.Clock.Seconds())
		o.ObserveInt64(unverified, s.Unverified)
	})
}

// WatchKeys reports a syncer's Status whenever metrics are collected, until stop is called.
func (m *Metrics) WatchKeys(s *keystore.Syncer) (stop func() error, err error) {
	g := gauges{meter: m.meter}
	healthy := g.int("sealed.keys.healthy", "1 if the keys are not too old to rely on", "")
	age := g.float("sealed.keys.age", "Time since the last complete read of the store was begun", "s")
	count := g.int("sealed.keys.count", "Keys by their state", "{key}")
	sealing := g.float("sealed.keys.sealing.age", "Time since the key that seals was activated", "s")
	return g.watch(func(o metric.Observer) {
		status := s.Status()
		o.ObserveInt64(healthy, boolean(status.Health == nil))
		o.ObserveFloat64(age, status.Age.Seconds())
		states := map[sealed.KeyState]int64{sealed.KeyPrimary: 0, sealed.KeyPending: 0, sealed.KeyRetiring: 0, sealed.KeyRevoked: 0}
		for _, k := range status.Keys {
			states[k.State]++
			if k.State == sealed.KeyPrimary {
				o.ObserveFloat64(sealing, time.Since(k.Activates).Seconds())
			}
		}
		for state, n := range states {
			o.ObserveInt64(count, n, metric.WithAttributes(attribute.String("state", string(state))))
		}
	})
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// gauges are instruments that are asked together.
type gauges struct {
	meter metric.Meter
	all   []metric.Observable
	errs  []error
}

func (g *gauges) add(o metric.Observable, err error) {
	g.all, g.errs = append(g.all, o), append(g.errs, err)
}

func (g *gauges) int(name, what, unit string) metric.Int64ObservableGauge {
	o, err := g.meter.Int64ObservableGauge(name, metric.WithDescription(what), metric.WithUnit(unit))
	g.add(o, err)
	return o
}

func (g *gauges) float(name, what, unit string) metric.Float64ObservableGauge {
	o, err := g.meter.Float64ObservableGauge(name, metric.WithDescription(what), metric.WithUnit(unit))
	g.add(o, err)
	return o
}

func (g *gauges) watch(ask func(metric.Observer)) (stop func() error, err error) {
	if err := errors.Join(g.errs...); err != nil {
		return nil, fmt.Errorf("otelsealed: %w", err)
	}
	registration, err := g.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		ask(o)
		return nil
	}, g.all...)
	if err != nil {
		return nil, fmt.Errorf("otelsealed: %w", err)
	}
	return registration.Unregister, nil
}
