package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A progress is a line that says what is under way. Where it is no terminal, it is
// written now and then.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	start    time.Time
	last     time.Time
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, start: time.Now()}
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	line := fmt.Sprintf("%5s  %s", now.Sub(p.start).Round(time.Second), fmt.Sprintf(format, args...))
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	case now.Sub(p.last) >= 15*time.Second:
		p.last = now
		fmt.Fprintln(p.out, line)
	}
}

// done ends the line.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
