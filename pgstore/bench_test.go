package pgstore_test

import (
	"testing"

	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

// BenchmarkLoad takes ten seconds, however often it is asked to run: use
// -benchtime 1x.
func BenchmarkLoad(b *testing.B) {
	server := testserver.StartPostgres(b)
	mustMigrate(b, connect(b, server, server.Addr, pgstore.Config{}))
	faulttest.Load(b, func(b *testing.B) revoke.Log { return connect(b, server, server.Addr, pgstore.Config{}) })
}

// BenchmarkStart fills the log first: -args -entries, and -benchtime 1x.
func BenchmarkStart(b *testing.B) {
	server := testserver.StartPostgres(b, "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB")
	mustMigrate(b, connect(b, server, server.Addr, pgstore.Config{}))
	faulttest.Start(b, server.Addr, func(b *testing.B, addr string) revoke.Log { return connect(b, server, addr, pgstore.Config{}) })
}
