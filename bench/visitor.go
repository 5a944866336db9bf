package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"example.com/sealed/bench/contender"
)

// A visitor has one connection to an application, and the cookies that it got there.
type visitor struct {
	client   *fasthttp.HostClient
	request  fasthttp.Request
	response fasthttp.Response
	witness
}

func newVisitor(x *child) *visitor {
	v := &visitor{
		client: &fasthttp.HostClient{
			Addr: x.Application, MaxConns: 1, ReadBufferSize: 1 << 16, WriteBufferSize: 1 << 16,
			NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
		},
		witness: witness{keeps: keeps(x)},
	}
	v.request.Header.SetHost(x.Application)
	return v
}

// keeps reports whether a contender keeps sessions: it is not a zero line.
func keeps(x *child) bool { return x.Name != contender.None && x.Name != contender.NodeNone }

// login logs in, with notes of so many bytes.
func (v *visitor) login(notes int) error {
	v.request.Header.DelAllCookies()
	return v.visit(contender.Login, "/login?notes="+strconv.Itoa(notes))
}

func (v *visitor) do(operation string) error { return v.visit(operation, "/"+operation) }

// visit makes one request, and checks that it did what it is for.
func (v *visitor) visit(operation, path string) error {
	v.request.Header.SetMethod(contender.Method(operation))
	v.request.SetRequestURI(path)
	if err := v.client.Do(&v.request, &v.response); err != nil {
		return err
	}
	if status := v.response.StatusCode(); status != fasthttp.StatusOK {
		return fmt.Errorf("%s: %w", operation, statusError{status, strings.TrimSpace(string(v.response.Body()))})
	}
	v.takeCookies()
	return v.check(operation, func(name string) string { return string(v.response.Header.Peek(name)) })
}

// A witness checks what the application says that an operation did.
type witness struct {
	keeps    bool // the application is not the zero line
	quantity int  // as of the last change
}

func (w *witness) check(operation string, header func(name string) string) error {
	if !w.keeps {
		return nil
	}
	switch operation {
	case contender.Login:
		w.quantity = contender.Reference(0).Cart[0].Qty
	case contender.Read:
		if got := header(contender.UserHeader); got != strconv.Itoa(contender.User) {
			return fmt.Errorf("a visitor who is logged in is user %q", got)
		}
	case contender.Change:
		w.quantity = contender.NextQuantity(w.quantity)
		if got := header(contender.QuantityHeader); got != strconv.Itoa(w.quantity) {
			return fmt.Errorf("a change to %q, where the one before makes it %d", got, w.quantity)
		}
	}
	return nil
}

func (v *visitor) takeCookies() {
	for _, line := range v.response.Header.Cookies() {
		var c fasthttp.Cookie
		if c.ParseBytes(line) != nil {
			continue
		}
		if c.MaxAge() < 0 || len(c.Value()) == 0 {
			v.request.Header.DelCookieBytes(c.Key())
		} else {
			v.request.Header.SetCookieBytesKV(c.Key(), c.Value())
		}
	}
}

// A statusError is an answer that is none: 503, mostly.
type statusError struct {
	status int
	body   string
}

func (e statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// A crowd is as many visitors as there are connections.
type crowd []*visitor

// gather returns n visitors who are logged in.
func gather(x *child, n, notes int) (crowd, error) {
	var c crowd
	for range n {
		v := newVisitor(x)
		if err := v.login(notes); err != nil {
			return nil, fmt.Errorf("%s: %w", x.Name, err)
		}
		c = append(c, v)
	}
	return c, nil
}

// gatherAll returns a crowd for each contender.
func (r *run) gatherAll(children []*child, n int) (map[string]crowd, error) {
	crowds := map[string]crowd{}
	for _, x := range children {
		r.say("%d visitors come to %s", n, x.Name)
		var err error
		if crowds[x.Name], err = gather(x, n, 0); err != nil {
			return nil, err
		}
	}
	return crowds, nil
}

// A doer does one operation, and checks that it has happened.
type doer interface{ do(operation string) error }

// visitAll has each of a crowd do one operation after another for some time, and
// returns how long each took, in microseconds, and all together.
func visitAll[D doer](c []D, operation string, d time.Duration) (micros []float64, elapsed time.Duration, err error) {
	each := make([][]float64, len(c))
	errs := make([]error, len(c))
	var working sync.WaitGroup
	start := time.Now()
	for i, v := range c {
		working.Go(func() {
			for now := time.Now(); now.Sub(start) < d; {
				if errs[i] = v.do(operation); errs[i] != nil {
					return
				}
				then := time.Now()
				each[i] = append(each[i], float64(then.Sub(now).Nanoseconds())/1000)
				now = then
			}
		})
	}
	working.Wait()
	elapsed = time.Since(start)
	for _, err := range errs {
		if err != nil {
			return nil, 0, err
		}
	}
	return slices.Concat(each...), elapsed, nil
}
