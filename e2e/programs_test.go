package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program finds a browser or its driver. Without one the test fails: nothing is skipped.
func program(t *testing.T, variable string, names ...string) string {
	t.Helper()
	for _, name := range append([]string{os.Getenv(variable)}, names...) {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Fatalf("no %s: install it, or name it in %s", names[0], variable)
	return ""
}

// profile returns an empty folder for a browser, which may still write to it for a
// moment when it has been told to end.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealed-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})
	return dir
}

// start runs a program with variables added to its environment, and returns what the
// pattern finds in its output. Without a pattern it does not wait.
func start(t *testing.T, pattern string, env []string, path string, args ...string) (found string, p *process) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with all its children
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p = &process{cmd.Process.Pid, make(chan struct{})}
	go func() { cmd.Wait(); close(p.ended) }()
	t.Cleanup(p.stop)
	if pattern == "" {
		go io.Copy(io.Discard, r)
		return "", p
	}
	var said strings.Builder
	re := regexp.MustCompile(pattern)
	limit := time.AfterFunc(time.Minute, p.stop)
	defer limit.Stop()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if m := re.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, r)
			return m[1], p
		}
	}
	t.Fatalf("%s does not say %q:\n%s", path, pattern, said.String())
	return "", p
}

// A process is a running program with all its children.
type process struct {
	group int
	ended chan struct{}
}

// stop ends it, and waits.
func (p *process) stop() {
	syscall.Kill(-p.group, syscall.SIGTERM)
	kill := time.AfterFunc(10*time.Second, func() { syscall.Kill(-p.group, syscall.SIGKILL) })
	<-p.ended
	kill.Stop()
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listens waits until a server does.
func listens(addr string) bool {
	for range 400 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return true
		}
		time.Sleep(25 * time.Millisecond)
	}
	return false
}
