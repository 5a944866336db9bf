package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// This file measures requests over the protocols of the web as it is. All have net/http's
// client, so that they can be compared; it takes more of the machine than that of visitor.go.

// A protocol is a way to reach an application.
type protocol struct {
	name       string
	tls, http2 bool
	dials      bool // a connection for each request
	operations []string
}

var readAndChange = []string{contender.Read, contender.Change}

var (
	overTLS   = protocol{name: "HTTP/1.1, TLS", tls: true, operations: readAndChange}
	overHTTP2 = protocol{name: "HTTP/2, TLS", tls: true, http2: true, operations: readAndChange}
)

var protocols = []protocol{
	{name: "HTTP/1.1", operations: readAndChange},
	overTLS,
	overHTTP2,
	{name: "HTTP/1.1, a full TLS handshake each", tls: true, dials: true, operations: []string{contender.Read}},
}

var protocolRivals = []string{contender.None, contender.Sealed, contender.SealedMemory, contender.SCSMemory, contender.SCSRedis}

const protocolConnections = 16

// A surfer is a visitor over any protocol, with a connection of its own, as a browser has.
type surfer struct {
	transport *http.Transport
	client    http.Client
	base      string
	cookies   map[string]string
	header    string // of cookies
	proto     int    // major version
	witness
}

func (p protocol) newSurfer(x *child) *surfer {
	s := &surfer{base: "http://" + x.Application, cookies: map[string]string{}, proto: 1, witness: witness{keeps: keeps(x)}}
	s.transport = &http.Transport{DisableKeepAlives: p.dials, Protocols: new(http.Protocols), DisableCompression: true}
	s.transport.Protocols.SetHTTP1(!p.http2)
	s.transport.Protocols.SetHTTP2(p.http2)
	if p.tls {
		s.base = "https://" + x.Secure
		s.transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // it is made by the process under test
	}
	if p.http2 {
		s.proto = 2
	}
	s.client = http.Client{Transport: s.transport}
	return s
}

func (s *surfer) do(operation string) error {
	r, err := http.NewRequest(contender.Method(operation), s.base+"/"+operation, nil)
	if err != nil {
		return err
	}
	if s.header != "" {
		r.Header.Set("Cookie", s.header)
	}
	res, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %w", operation, statusError{res.StatusCode, string(body)})
	case res.ProtoMajor != s.proto:
		return fmt.Errorf("%s, want HTTP/%d", res.Proto, s.proto)
	}
	if set := res.Cookies(); len(set) > 0 {
		s.header = ""
		for _, c := range set {
			s.cookies[c.Name] = c.Value
		}
		for name, value := range s.cookies {
			if s.header != "" {
				s.header += "; "
			}
			s.header += name + "=" + value
		}
	}
	return s.check(operation, res.Header.Get)
}

// surfers are those of all contenders, by protocol.
type surfers map[reached][]*surfer

// reached is a contender over one protocol.
type reached struct{ contender, protocol string }

// welcome has all of a contender's surfers log in.
func (s surfers) welcome(x *child) error {
	for _, p := range protocols {
		k := reached{x.Name, p.name}
		for range protocolConnections {
			v := p.newSurfer(x)
			s[k] = append(s[k], v)
			if err := v.do(contender.Login); err != nil {
				return fmt.Errorf("%s: %s: %w", x.Name, p.name, err)
			}
		}
	}
	return nil
}

func (s surfers) leave() {
	for _, crowd := range s {
		for _, v := range crowd {
			v.transport.CloseIdleConnections()
		}
	}
}

// surfed is one operation of a contender over one protocol.
type surfed struct {
	reached
	operation string
}

// overProtocols measures requests over each protocol.
func (r *run) overProtocols() error {
	return r.with(contender.Select(protocolRivals...), r.stores(), func(children []*child) error {
		crowds := surfers{}
		defer crowds.leave()
		for _, x := range children {
			if err := crowds.welcome(x); err != nil {
				return err
			}
		}
		if err := r.interleave("protocols, warming up", 1, children, func(x *child) error { return r.surf(x, crowds, gathered[surfed]{}) }); err != nil {
			return err
		}
		seen := gathered[surfed]{}
		if err := r.interleave("protocols", r.rounds, children, func(x *child) error { return r.surf(x, crowds, seen) }); err != nil {
			return err
		}
		for _, p := range protocols {
			for _, operation := range p.operations {
				for _, x := range children {
					l := seen.of(surfed{reached{x.Name, p.name}, operation}).load(loaded{x.Name, operation, protocolConnections})
					r.results.Protocols = append(r.results.Protocols, results.Protocol{Name: p.name, Load: l})
				}
			}
		}
		return nil
	})
}

// surf adds one round of a contender over all protocols, in another order each time.
func (r *run) surf(x *child, crowds surfers, seen gathered[surfed]) error {
	for _, i := range r.rng.Perm(len(protocols)) {
		k := reached{x.Name, protocols[i].name}
		for _, operation := range protocols[i].operations {
			if err := addRound(r, seen.of(surfed{k, operation}), x, crowds[k], operation, r.http); err != nil {
				return err
			}
		}
	}
	return nil
}

// SealedHTTP2Factor and StoreHTTP2Factor are how many times as much of the processor a session
// takes over HTTP/2 as over HTTP/1.1, both with TLS: the least and the most of a read and a change.
func (f facts) SealedHTTP2Factor() string {
	return f.http2Factor(contender.Sealed, contender.SealedMemory)
}

func (f facts) StoreHTTP2Factor() string {
	return f.http2Factor(contender.SCSMemory, contender.SCSRedis)
}

func (f facts) http2Factor(names ...string) string {
	micros := func(name, protocol, operation string) float64 {
		i := slices.IndexFunc(f.Protocols, func(p results.Protocol) bool {
			return p.Contender == name && p.Name == protocol && p.Operation == operation
		})
		if i < 0 {
			return 0
		}
		return f.Protocols[i].ServerCPUMicros.Median
	}
	var factors []float64
	for _, name := range names {
		for _, operation := range readAndChange {
			beyond := func(p protocol) float64 {
				return micros(name, p.name, operation) - micros(contender.None, p.name, operation)
			}
			factors = append(factors, beyond(overHTTP2)/beyond(overTLS))
		}
	}
	return number(slices.Min(factors)) + " to " + number(slices.Max(factors))
}

func protocolTable(r *results.Results) *table {
	t := &table{
		title: fmt.Sprintf("By protocol, with %d connections: processor time of the application for a request, µs, and requests a second", protocolConnections),
		head:  []string{""},
	}
	type column struct{ name, operation string }
	columns := distinct(r.Protocols, func(p results.Protocol) column { return column{p.Name, p.Operation} })
	for _, c := range columns {
		t.head = append(t.head, c.name+": "+c.operation)
	}
	for _, name := range distinct(r.Protocols, func(p results.Protocol) string { return p.Contender }) {
		row := []string{name}
		for _, c := range columns {
			for _, p := range r.Protocols {
				if p.Contender == name && p.Name == c.name && p.Operation == c.operation {
					row = append(row, fmt.Sprintf("%s (%s/s)", number(p.ServerCPUMicros.Median), count(p.PerSecond.Median)))
				}
			}
		}
		t.add(row...)
	}
	return t
}
