package testserver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Redis is a redis-server that keeps its data in a folder, with each write on disk
// before it is acknowledged unless its arguments say otherwise.
type Redis struct {
	*Process
	Addr    string
	TLSAddr string // of StartRedisTLS
	t       TB
	folder  string
	port    int
	args    []string
}

// StartRedis starts one. Without redis-server the test fails: it is part of CI.
func StartRedis(t TB, args ...string) *Redis {
	t.Helper()
	port := freePort(t)
	r := &Redis{t: t, folder: t.TempDir(), port: port, Addr: fmt.Sprint("127.0.0.1:", port), args: args}
	r.Restart()
	return r
}

// Restart starts the server again, after Kill, with the data that it has.
func (r *Redis) Restart() {
	r.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		r.t.Fatal("no redis-server: install it (Debian: redis-server)")
	}
	args := append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(r.port), "--dir", r.folder, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"}, r.args...)
	r.Process = start(r.t, exec.Command(path, args...))
	within(r.t, 10*time.Second, "redis-server", r.Process, func() error {
		_, err := r.Do("PING")
		return err
	})
}

// Forget has the next Restart start without data.
func (r *Redis) Forget() { r.folder = r.t.TempDir() }

// Folder returns where the server keeps its data.
func (r *Redis) Folder() string { return r.folder }

// Do sends one command, as words, and returns the first line of the answer.
func (r *Redis) Do(words ...string) (string, error) {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", strings.Join(words, " ")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.HasPrefix(line, "-") {
		err = fmt.Errorf("redis: %s", line)
	}
	return strings.TrimSpace(line), err
}

// all sends one command, as words, and returns the answer as it comes.
func (r *Redis) all(words ...string) string {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "%s\r\nQUIT\r\n", strings.Join(words, " "))
	b, _ := io.ReadAll(c)
	return strings.TrimSuffix(string(b), "+OK\r\n")
}

// Processor returns the processor time that the server has used.
func (r *Redis) Processor() (used time.Duration) {
	r.t.Helper()
	for line := range strings.Lines(r.all("INFO", "cpu")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				r.t.Fatal(err)
			}
			used += time.Duration(seconds * float64(time.Second))
		}
	}
	return used
}

// Await waits until INFO has a line.
func (r *Redis) Await(line string) {
	r.t.Helper()
	within(r.t, 20*time.Second, "redis-server's "+line, r.Process, func() error {
		if info := r.all("INFO"); !strings.Contains(info, line) {
			return fmt.Errorf("INFO says %q", info)
		}
		return nil
	})
}

// MustDo is Do that must succeed.
func (r *Redis) MustDo(words ...string) string {
	r.t.Helper()
	answer, err := r.Do(words...)
	if err != nil {
		r.t.Fatalf("%q: %v", words, err)
	}
	return answer
}
