// Package testserver starts the real servers that tests and benchmarks run against,
// on loopback, and the network between: they can be killed, stopped, replaced and
// cut off.
package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TB is what servers need of who starts them: a [testing.TB], or a program that
// ends what it has started. Fatal and Fatalf do not return.
type TB interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	TempDir() string
}

// A Process is a server, ended by its own process ID.
type Process struct {
	t    TB
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

func start(t TB, cmd *exec.Cmd) *Process {
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
func (p *Process) Stop() { p.signal(stop, p.cmd.Process.Pid) }

// Continue ends Stop.
func (p *Process) Continue() { p.signal(proceed, p.cmd.Process.Pid) }

// signal sends a signal to the server, or what it has started, as far as that runs.
func (p *Process) signal(s os.Signal, pids ...int) {
	select {
	case <-p.done:
		return
	default:
	}
	for _, pid := range pids {
		process, err := os.FindProcess(pid)
		if err == nil {
			err = process.Signal(s)
		}
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.t.Errorf("signalling %d (%v): %v", pid, s, err)
		}
	}
}

// PIDs returns the process IDs of the server and of what it has started.
func (p *Process) PIDs() []int {
	main := p.cmd.Process.Pid
	return append([]int{main}, children(main)...)
}

// children returns the process IDs of what a process has started.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// "PID (name) state parent": the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freePort returns a port that nobody listens on.
func freePort(t TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// within waits until try succeeds.
func within(t TB, d time.Duration, what string, p *Process, try func() error) {
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
