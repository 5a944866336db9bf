package otelsealed_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/sealed"
	"example.com/sealed/otelsealed"
	"example.com/sealed/revoke"
)

// Metrics of sessions, and of the list and its log.
func ExampleNew() {
	ctx := context.Background()
	reader := metric.NewManualReader() // as a rule, an exporter's
	metrics, err := otelsealed.New(metric.NewMeterProvider(metric.WithReader(reader)))
	if err != nil {
		panic(err)
	}
	revocations, err := revoke.Follow(metrics.Log(new(revoke.Memory)), revoke.Policy{Observe: metrics.Revocations(nil)})
	if err != nil {
		panic(err)
	}
	defer revocations.Close(ctx)
	stop, err := metrics.WatchReplica(revocations)
	if err != nil {
		panic(err)
	}
	defer stop()
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		panic(err)
	}
	sessions, err := sealed.New(keys, sealed.Config[string]{Purpose: "example", Revocations: revocations, Observe: metrics.Sessions(nil)})
	if err != nil {
		panic(err)
	}
	if err := revocations.Ready(ctx); err != nil {
		panic(err)
	}
	if _, err := sessions.Seal("alice"); err != nil {
		panic(err)
	}

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		panic(err)
	}
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if counter, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "sealed.session.events" {
				event, _ := counter.DataPoints[0].Attributes.Value("event")
				fmt.Println(m.Name, event.AsString(), counter.DataPoints[0].Value)
			}
		}
	}
	// Output:
	// sealed.session.events sealed 1
}
