package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// onTheWire counts the bytes of each request in both directions, and those that it
// makes go to the store and back. Each contender is alone with its stores.
func (r *run) onTheWire() error {
	for _, c := range contender.All {
		err := testserver.Guard(func(h *testserver.Host) error {
			l, e := r.link(h)
			return r.with([]contender.Contender{c}, e, func(children []*child) error {
				return r.countAll(children[0], l)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countAll counts the bytes of each operation of a contender, and of none.
func (r *run) countAll(x *child, l links) error {
	var login results.Wire
	for _, operation := range contender.Operations {
		r.say("bytes on the wire: %s, %s", x.Name, operation)
		w, err := countBytes(x, operation)
		if err != nil {
			return err
		}
		if err := r.countStore(x, l, &w, login); err != nil {
			return err
		}
		if operation == contender.Login {
			login = w
		}
		r.results.Wire = append(r.results.Wire, w)
	}
	if x.Store != contender.OnRedis && x.Store != contender.OnPostgres {
		return nil
	}
	r.say("bytes while nobody visits: %s", x.Name)
	time.Sleep(r.idle / 4) // until it has followed what came before
	before := l.traffic(x)
	time.Sleep(r.idle) // what is measured is a time in which nothing happens
	after := l.traffic(x)
	r.results.Idle = append(r.results.Idle, results.Idle{
		Contender:         x.Name,
		AskedPerSecond:    float64(after.Asked-before.Asked) / r.idle.Seconds(),
		AnsweredPerSecond: float64(after.Answered-before.Answered) / r.idle.Seconds(),
		MessagesPerSecond: float64(after.Messages-before.Messages) / r.idle.Seconds(),
	})
	return nil
}

// browserHeaders are what a browser sends with each request, beside cookies.
var browserHeaders = http.Header{
	"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"},
	"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	"Accept-Encoding": {"gzip, deflate, br, zstd"},
	"Accept-Language": {"en-US,en;q=0.9"},
}

// countBytes counts the bytes of one request over HTTP/1.1.
func countBytes(x *child, operation string) (results.Wire, error) {
	w := results.Wire{Contender: x.Name, Operation: operation}
	var cookies []*http.Cookie
	if operation != contender.Login {
		_, _, res, err := exchange(x.Application, contender.Login, nil)
		if err != nil {
			return w, err
		}
		cookies = res.Cookies()
	}
	var res *http.Response
	var err error
	if w.Request, w.Response, res, err = exchange(x.Application, operation, cookies); err != nil {
		return w, err
	}
	if line := res.Request.Header.Get("Cookie"); line != "" {
		w.Cookie = len("Cookie: \r\n") + len(line)
	}
	for _, line := range res.Header["Set-Cookie"] {
		w.SetCookie += len("Set-Cookie: \r\n") + len(line)
	}
	return w, nil
}

// exchange makes one request on a connection of its own, and counts its bytes.
func exchange(addr, operation string, cookies []*http.Cookie) (sent, received int, res *http.Response, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, 0, nil, err
	}
	defer c.Close()
	req := &http.Request{
		Method: contender.Method(operation), Host: "shop.example", Header: browserHeaders.Clone(),
		URL: &url.URL{Path: "/" + operation},
	}
	for _, cookie := range cookies {
		req.AddCookie(cookie)
	}
	var out, in bytes.Buffer
	if err := req.Write(io.MultiWriter(c, &out)); err != nil {
		return 0, 0, nil, err
	}
	reader := bufio.NewReader(io.TeeReader(c, &in))
	if res, err = http.ReadResponse(reader, req); err != nil {
		return 0, 0, nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", operation, res.Status)
	}
	return out.Len(), in.Len(), res, err
}

// countStore counts what an operation has the contender say to its store, on average
// over many. What is said in consequence, to follow a log, counts too. To log out one
// must have logged in: that is counted as well, and what login takes subtracted.
func (r *run) countStore(x *child, l links, w *results.Wire, login results.Wire) error {
	if x.Store != contender.OnRedis && x.Store != contender.OnPostgres {
		return nil
	}
	c, err := gather(x, 1, 0)
	if err != nil {
		return err
	}
	before := l.traffic(x)
	for range r.requests {
		if w.Operation == contender.Login || w.Operation == contender.Logout {
			err = c[0].login(0)
		}
		if err == nil && w.Operation != contender.Login {
			err = c[0].do(w.Operation)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	after, n := l.traffic(x), float64(r.requests)
	w.StoreAsked = float64(after.Asked-before.Asked) / n
	w.StoreAnswered = float64(after.Answered-before.Answered) / n
	w.StoreMessages = float64(after.Messages-before.Messages) / n
	if w.Operation == contender.Logout {
		w.StoreAsked = max(0, w.StoreAsked-login.StoreAsked)
		w.StoreAnswered = max(0, w.StoreAnswered-login.StoreAnswered)
		w.StoreMessages = max(0, w.StoreMessages-login.StoreMessages)
	}
	return nil
}
