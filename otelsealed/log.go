package otelsealed

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Log returns a log that reports how long the calls of another take, and what it reads. It
// is a [revoke.Inspector] if that is one.
func (m *Metrics) Log(log revoke.Log) revoke.Log {
	measured := measuredLog{log, m}
	if i, ok := log.(revoke.Inspector); ok {
		return struct {
			measuredLog
			revoke.Inspector
		}{measured, i}
	}
	return measured
}

type measuredLog struct {
	revoke.Log
	m *Metrics
}

func (l measuredLog) record(ctx context.Context, call string, began time.Time, err error) {
	failed := err != nil && !errors.Is(err, revoke.ErrGap)
	l.m.calls.Record(context.WithoutCancel(ctx), time.Since(began).Seconds(),
		metric.WithAttributes(attribute.String("call", call), attribute.Bool("failed", failed)))
}

// Append implements [revoke.Log].
func (l measuredLog) Append(ctx context.Context, revocations []sealed.Revocation) error {
	began := time.Now()
	err := l.Log.Append(ctx, revocations)
	l.record(ctx, "append", began, err)
	return err
}

// Read implements [revoke.Log].
func (l measuredLog) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	began := time.Now()
	page, err := l.Log.Read(ctx, cursor)
	l.record(ctx, "read", began, err)
	l.m.read.Add(context.WithoutCancel(ctx), int64(len(page.Revocations)))
	return page, err
}

// Prune implements [revoke.Log].
func (l measuredLog) Prune(ctx context.Context) error {
	began := time.Now()
	err := l.Log.Prune(ctx)
	l.record(ctx, "prune", began, err)
	return err
}
