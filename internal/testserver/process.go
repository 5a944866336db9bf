// Package testserver starts the real servers that tests run against, on loopback,
// and the network between: they can be killed, stopped, replaced and cut off.
package testserver

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a server, ended by its own process ID.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// Write gathers what the server says, for a test that fails.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting a server: %v", err)
	}
	go func() { cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			out := p.out.Bytes()
			t.Logf("%s said at last:\n%s", cmd.Args[0], out[max(0, len(out)-2000):])
		}
	})
	return p
}

// Kill ends the server as a power failure does, and waits for that.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Kill()
	<-p.done
}

// Stop stops the server in its tracks, with its connections open, until Continue.
func (p *Process) Stop() { p.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (p *Process) Continue() { p.cmd.Process.Signal(syscall.SIGCONT) }

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// within waits until try succeeds.
func within(t testing.TB, d time.Duration, what string, p *Process, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
		select {
		case <-p.done:
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Fatalf("%s has ended:\n%s", what, p.out.String())
		default:
		}
	}
	t.Fatal(fmt.Errorf("%s is not ready: %w", what, err))
}
