package testserver

import (
	"fmt"
	"os"
	"slices"
)

// A Host starts servers and ends them where there is no test: in programs and examples. Make it with
// [Guard].
type Host struct {
	ends   []func()
	failed bool
}

// A failure is what a host panics with: nothing can go on.
type failure struct{ text string }

func (h *Host) Helper()                   {}
func (h *Host) Failed() bool              { return h.failed }
func (h *Host) Cleanup(end func())        { h.ends = append(h.ends, end) }
func (h *Host) Logf(f string, a ...any)   { fmt.Fprintf(os.Stderr, f+"\n", a...) }
func (h *Host) Fatal(a ...any)            { h.failed = true; panic(failure{fmt.Sprint(a...)}) }
func (h *Host) Fatalf(f string, a ...any) { h.Fatal(fmt.Sprintf(f, a...)) }

func (h *Host) Errorf(f string, a ...any) {
	h.failed = true
	h.Logf(f, a...)
}

// TempDir returns a folder that ends with the host.
func (h *Host) TempDir() string {
	folder, err := os.MkdirTemp("", "sealed-testserver")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// end ends all that was started, the last first.
func (h *Host) end() {
	for _, end := range slices.Backward(h.ends) {
		end()
	}
	h.ends = nil
}

// Guard runs f with a host, ends what that has started, and returns its failure as an error.
func Guard(f func(*Host) error) (err error) {
	h := &Host{}
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
