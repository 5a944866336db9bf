package redisstore_test

import (
	"testing"

	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// BenchmarkLoad takes ten seconds, however often it is asked to run: use
// -benchtime 1x.
func BenchmarkLoad(b *testing.B) {
	server := testserver.StartRedis(b)
	before := server.Processor()
	faulttest.Load(b, func(b *testing.B) revoke.Log { return connect(b, server.Addr, redisstore.Config{}) })
	b.ReportMetric(100*(server.Processor()-before).Seconds()/10, "%-of-a-core")
}

// BenchmarkStart fills the log first: -args -entries, and -benchtime 1x.
func BenchmarkStart(b *testing.B) {
	server := testserver.StartRedis(b, "--appendonly", "no")
	faulttest.Start(b, server.Addr, func(b *testing.B, addr string) revoke.Log { return connect(b, addr, redisstore.Config{}) })
}
