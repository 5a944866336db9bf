package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/sealed/bench/contender"
)

// A worker does operations of its contender without a network before it.
type worker struct {
	sessions contender.Sessions
	keeps    bool // it is not the zero line
}

// A measurement is what some operations took.
type measurement struct {
	N       int
	Elapsed time.Duration
	Bytes   uint64
	Allocs  uint64
}

// To log out one must have logged in: so many visitors do, while no clock runs, and
// at most so many log out in one measurement.
const logoutBatch, logoutMost = 50, 1000

// measure has one operation done again and again for some time.
func (w *worker) measure(operation string, notes int, d time.Duration) (m measurement, err error) {
	h := contender.Handlers(w.sessions)[operation]
	if h == nil {
		return m, fmt.Errorf("no operation %q", operation)
	}
	handler := w.sessions.Wrap(h)
	if operation == contender.Logout {
		for m.Elapsed < d && m.N < logoutMost && err == nil {
			var visitors []*http.Request
			for range logoutBatch {
				visitors = append(visitors, w.request(operation, w.login(notes)))
			}
			m.time(func() int {
				for _, r := range visitors {
					if err == nil {
						err = w.once(&sink{header: http.Header{}}, handler, r, operation)
					}
				}
				return len(visitors)
			})
		}
		return m, err
	}
	var cookies []*http.Cookie
	if own, ok := w.sessions.(interface {
		Cookies() ([]*http.Cookie, error)
	}); ok {
		if cookies, err = own.Cookies(); err != nil {
			return m, err
		}
	} else if operation != contender.Login {
		cookies = w.login(notes)
	}
	template := w.request(operation, cookies)
	s, r := &sink{header: http.Header{}}, new(http.Request)
	m.time(func() (n int) {
		for start := time.Now(); n&15 != 0 || time.Since(start) < d; n++ {
			clear(s.header)
			*r = *template // contenders may keep things in it
			handler.ServeHTTP(s, r)
		}
		return n
	})
	return m, w.done(s, operation)
}

// time adds what f takes, which returns how often it did the operation.
func (m *measurement) time(f func() int) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	m.N += f()
	m.Elapsed += time.Since(start)
	runtime.ReadMemStats(&after)
	m.Bytes += after.TotalAlloc - before.TotalAlloc
	m.Allocs += after.Mallocs - before.Mallocs
}

func (w *worker) once(s *sink, h http.Handler, r *http.Request, operation string) error {
	h.ServeHTTP(s, r)
	return w.done(s, operation)
}

// done checks that an operation has happened.
func (w *worker) done(s *sink, operation string) error {
	var proof string
	switch operation {
	case contender.Read:
		proof = contender.UserHeader
	case contender.Change:
		proof = contender.QuantityHeader
	case contender.Login, contender.Logout:
		proof = "Set-Cookie"
	}
	if s.failed || w.keeps && proof != "" && len(s.header[proof]) == 0 {
		return fmt.Errorf("%s has not happened: %d %v", operation, s.status, s.header)
	}
	return nil
}

func (w *worker) request(operation string, cookies []*http.Cookie) *http.Request {
	r := httptest.NewRequest(contender.Method(operation), "https://shop.example/"+operation, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// login logs a visitor in, and returns the cookies.
func (w *worker) login(notes int) []*http.Cookie {
	r := httptest.NewRequest("POST", "https://shop.example/login?notes="+strconv.Itoa(notes), nil)
	rec := httptest.NewRecorder()
	w.sessions.Wrap(contender.Handlers(w.sessions)[contender.Login]).ServeHTTP(rec, r)
	return rec.Result().Cookies()
}

// visit logs n visitors in, and out again if told so, eight at a time.
func (w *worker) visit(n int, out bool) error {
	login := w.sessions.Wrap(contender.Handlers(w.sessions)[contender.Login])
	logout := w.sessions.Wrap(contender.Handlers(w.sessions)[contender.Logout])
	stranger := w.request(contender.Login, nil)
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, 8)
	var visitors sync.WaitGroup
	for i := range errs {
		visitors.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				s, r := &sink{header: http.Header{}}, new(http.Request)
				*r = *stranger
				errs[i] = w.once(s, login, r, contender.Login)
				if errs[i] != nil || !out {
					continue
				}
				r = w.request(contender.Logout, (&http.Response{Header: s.header}).Cookies())
				errs[i] = w.once(&sink{header: http.Header{}}, logout, r, contender.Logout)
			}
		})
	}
	visitors.Wait()
	return errors.Join(errs...)
}

// A sink is a ResponseWriter that costs as little as one can.
type sink struct {
	header http.Header
	status int
	failed bool // at any time
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(status int) {
	s.status = status
	s.failed = s.failed || status != http.StatusOK
}

// A consumption is what the process has used until now.
type consumption struct {
	CPU  time.Duration
	Heap uint64 // bytes in use
	RSS  uint64 // bytes of memory
}

// usage returns what the process has used. It collects garbage first if told so.
func usage(collect bool) (u consumption, err error) {
	if collect {
		runtime.GC() // twice: what finalizers let go
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap = m.HeapAlloc
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return u, err
	}
	u.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	u.RSS, err = memoryOf(os.Getpid(), "/status", "VmRSS:")
	return u, err
}

// memoryOf reads a line of /proc that is in kilobytes.
func memoryOf(pid int, file, name string) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc%s", name, file)
}

// cpuOf returns the processor time that a process has used, which Linux counts to ten
// milliseconds for users, but to nanoseconds for the scheduler.
func cpuOf(pid int) time.Duration {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	var used time.Duration
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // it may have ended
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			used += time.Duration(ns)
		}
	}
	return used
}
