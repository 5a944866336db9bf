module example.com/sealed/interop

go 1.26.0

require (
	example.com/sealed v0.0.0
	github.com/google/go-cmp v0.7.0
)

require (
	github.com/fxamacker/cbor/v2 v2.10.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace example.com/sealed => ../
