package main

import (
	"fmt"
	"os"
	"slices"
)

// A host starts servers and ends them: what a test is to the servers under test.
type host struct {
	ends   []func()
	failed bool
}

// A failure is what a host panics with: nothing can go on.
type failure struct{ text string }

func (h *host) Helper()                   {}
func (h *host) Failed() bool              { return h.failed }
func (h *host) Cleanup(end func())        { h.ends = append(h.ends, end) }
func (h *host) Logf(f string, a ...any)   { fmt.Fprintf(os.Stderr, f+"\n", a...) }
func (h *host) Fatal(a ...any)            { h.failed = true; panic(failure{fmt.Sprint(a...)}) }
func (h *host) Fatalf(f string, a ...any) { h.Fatal(fmt.Sprintf(f, a...)) }

func (h *host) Errorf(f string, a ...any) {
	h.failed = true
	h.Logf(f, a...)
}

// TempDir returns a folder that ends with the host.
func (h *host) TempDir() string {
	folder, err := os.MkdirTemp("", "sealed-bench")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// end ends all that was started, the last first.
func (h *host) end() {
	for _, end := range slices.Backward(h.ends) {
		end()
	}
	h.ends = nil
}

// guard runs f, which uses a host, and returns its failure as an error.
func guard(f func(*host) error) (err error) {
	h := &host{}
	defer h.end()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", p.text)
		default:
			panic(p)
		}
	}()
	return f(h)
}
