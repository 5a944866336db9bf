module example.com/sealed/examples/cluster

go 1.26.0

require (
	example.com/sealed v0.0.0
	example.com/sealed/redisstore v0.0.0
	github.com/redis/go-redis/v9 v9.23.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/fxamacker/cbor/v2 v2.10.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	example.com/sealed => ../..
	example.com/sealed/redisstore => ../../redisstore
)
