package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"example.com/sealed/otelsealed"
)

// newMetrics returns what an instance reports, and the page that Prometheus reads. The
// folder monitoring has alerts and a dashboard for it. In a process of its own an
// instance would take the default registry.
func newMetrics() (*otelsealed.Metrics, http.Handler, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, nil, err
	}
	metrics, err := otelsealed.New(metric.NewMeterProvider(metric.WithReader(exporter)))
	return metrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), err
}
