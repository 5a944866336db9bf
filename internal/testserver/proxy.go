package testserver

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is what a Proxy does to what passes through it.
type Mode int

// The faults of a network.
const (
	Pass      Mode = iota
	BlackHole      // takes everything, and delivers nothing
	HalfOpen       // delivers what clients say, and none of the answers
	Slow           // delivers answers after half a second
	Cut            // ends the connection in the middle of each answer
	Refuse         // takes no connections, and has ended those that there were
)

// A Proxy is a network between clients and a server.
type Proxy struct {
	Addr string

	delay                     atomic.Int64 // of each way, in nanoseconds
	asked, answered, messages atomic.Int64

	mu     sync.Mutex
	mode   Mode
	target string
	conns  map[net.Conn]bool
	turned chan struct{} // closed when the mode changes
}

// NewProxy starts a proxy to a server.
func NewProxy(t TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}, turned: make(chan struct{})}
	t.Cleanup(func() { l.Close(); p.Set(Refuse) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Set sets the mode, for connections that there are as well.
func (p *Proxy) Set(mode Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	close(p.turned)
	p.turned = make(chan struct{})
	if mode == Refuse {
		p.endAll()
	}
}

// Delay has everything arrive so much later, each way: half of a round trip.
func (p *Proxy) Delay(oneWay time.Duration) { p.delay.Store(int64(oneWay)) }

// Traffic is what has passed through a proxy.
type Traffic struct {
	Asked    int64 // bytes from clients
	Answered int64 // bytes to them
	Messages int64 // from clients: how often one was sent at once
}

// Traffic returns what has passed since the proxy was made.
func (p *Proxy) Traffic() Traffic {
	return Traffic{p.asked.Load(), p.answered.Load(), p.messages.Load()}
}

// Retarget has new connections go to another server, and ends the others.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.endAll()
}

func (p *Proxy) endAll() {
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) state() (Mode, string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.target, p.turned
}

func (p *Proxy) serve(client net.Conn) {
	mode, target, _ := p.state()
	if mode == Refuse {
		client.Close()
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	go p.pump(client, server, false)
	p.pump(server, client, true)
}

// pump carries one direction until it ends.
func (p *Proxy) pump(from, to net.Conn, answers bool) {
	defer func() {
		from.Close()
		to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	arrivals := make(chan arrival, 64)
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(arrivals)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				select {
				case arrivals <- arrival{time.Now(), b[:n]}:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	var a *alarm
	defer func() { a.close() }()
	for x := range arrivals {
		if delay := time.Duration(p.delay.Load()); delay > 0 {
			if a == nil {
				a = newAlarm()
			}
			if left := time.Until(x.at.Add(delay)); left > together {
				a.wait(left)
			}
		}
		if !p.deliver(to, x.b, answers) {
			return
		}
	}
}

// together is within which pieces of one message are delivered at once: to wait for each
// alone would take longer than it does.
const together = 100 * time.Microsecond

// An arrival is what came at a time.
type arrival struct {
	at time.Time
	b  []byte
}

// deliver delivers some bytes as the mode has it, and reports whether the
// connection goes on.
func (p *Proxy) deliver(to net.Conn, b []byte, answers bool) bool {
	for {
		mode, _, turned := p.state()
		switch {
		case mode == BlackHole, mode == HalfOpen && answers:
			<-turned
			if now, _, _ := p.state(); now == Pass {
				return false // what was lost does not come later
			}
			continue
		case mode == Slow && answers:
			select {
			case <-time.After(500 * time.Millisecond):
			case <-turned:
			}
		case mode == Cut && answers:
			to.Write(b[:len(b)/2])
			return false
		case mode == Refuse:
			return false
		}
		p.count(len(b), answers)
		_, err := to.Write(b)
		return err == nil
	}
}

func (p *Proxy) count(n int, answers bool) {
	if answers {
		p.answered.Add(int64(n))
		return
	}
	p.asked.Add(int64(n))
	p.messages.Add(1)
}
