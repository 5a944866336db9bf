package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"math/big"
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

// addresses is what it answers on its standard output. Secure is the application over
// TLS, which a process of Node does not have.
type addresses struct{ Application, Secure, Control string }

// ballast is memory that each process holds beside what its contender keeps, as an
// application does. Without it the garbage collector would run the more often the less a
// contender keeps: for one that keeps nothing, every few thousand requests.
const ballast = 64 << 20

// serve serves until the input ends.
func serve(in io.Reader, out io.Writer) error {
	beside := make([]byte, ballast)
	defer runtime.KeepAlive(beside)
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
	application := contender.NewApplication(sessions)
	site, err := listen(application)
	if err != nil {
		return err
	}
	secure, err := listenTLS(application)
	if err != nil {
		return err
	}
	w := &worker{sessions: sessions, keeps: c.Name != contender.None}
	control, err := listen(w.control())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(addresses{site, secure, control}); err != nil {
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

// listenTLS is listen over TLS 1.3, with HTTP/2 for who wants it and a certificate for the
// life of the process, which is not checked: to check it is the client's work.
func listenTLS(h http.Handler) (address string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
	}}
	go server.ServeTLS(l, "", "")
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
