package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"example.com/sealed/bench/contender"
)

// This file and worker.go are the process that serves one contender. It runs alone,
// so that neither its memory nor its garbage collector has to do with another's.

// A job is what the process is told on its standard input. It ends when that does.
type job struct {
	Contender   string
	Environment contender.Environment
}

// addresses is what it answers on its standard output.
type addresses struct{ Application, Control string }

// ballast is memory that each process holds beside what its contender keeps, as an
// application does. Without it the garbage collector would run the more often the less a
// contender keeps: for one that keeps nothing, every few thousand requests.
const ballast = 64 << 20

// serve serves until the input ends.
func serve(in io.Reader, out io.Writer) error {
	application := make([]byte, ballast)
	defer runtime.KeepAlive(application)
	input := json.NewDecoder(in)
	var j job
	if err := input.Decode(&j); err != nil {
		return err
	}
	c, err := contender.Find(j.Contender)
	if err != nil {
		return err
	}
	sessions, end, err := c.Open(context.Background(), j.Environment)
	if err != nil {
		return err
	}
	defer end()
	site, err := listen(contender.NewApplication(sessions))
	if err != nil {
		return err
	}
	w := &worker{sessions: sessions, keeps: c.Name != contender.None}
	control, err := listen(w.control())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(addresses{site, control}); err != nil {
		return err
	}
	io.Copy(io.Discard, in)
	return nil
}

// listen serves on loopback, and returns where.
func listen(h http.Handler) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go http.Serve(l, h)
	return l.Addr().String(), nil
}

// control returns a handler of what the worker can be told. It answers with JSON.
func (w *worker) control() http.Handler {
	mux := http.NewServeMux()
	route := func(name string, do func(r *http.Request, number func(name string) int) (any, error)) {
		mux.HandleFunc("POST /"+name, func(rw http.ResponseWriter, r *http.Request) {
			answer, err := do(r, func(name string) int {
				n, _ := strconv.Atoi(r.FormValue(name)) // the other end is this program
				return n
			})
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
				return
			}
			json.NewEncoder(rw).Encode(answer)
		})
	}
	route("measure", func(r *http.Request, number func(string) int) (any, error) {
		return w.measure(r.FormValue("operation"), number("notes"), time.Duration(number("ns")))
	})
	route("login", func(_ *http.Request, number func(string) int) (any, error) {
		return nil, w.visit(number("n"), false)
	})
	route("logout", func(_ *http.Request, number func(string) int) (any, error) {
		return nil, w.visit(number("n"), true)
	})
	route("usage", func(_ *http.Request, number func(string) int) (any, error) {
		return usage(number("collect") > 0)
	})
	return mux
}
