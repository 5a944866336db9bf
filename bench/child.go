package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/internal/testserver"
)

// A child is a process that serves one contender. See serve.
type child struct {
	contender.Contender
	addresses
	ctx   context.Context // of the run
	cmd   *exec.Cmd
	input io.Closer
}

// serveArgument has this program be such a process.
const serveArgument = "serve-contender"

// startChild starts one, which t ends.
func (r *run) startChild(t testserver.TB, c contender.Contender, e contender.Environment) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, serveArgument)
	if c.Node {
		cmd = exec.Command("node", "--expose-gc", "server.js")
		cmd.Dir = "node"
	}
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x := &child{Contender: c, ctx: r.ctx, cmd: cmd, input: input}
	t.Cleanup(x.end)
	if err := json.NewEncoder(input).Encode(job{c.Name, e}); err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	if err := json.NewDecoder(output).Decode(&x.addresses); err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return x
}

// end ends the process, by its own ID if it does not end when its input does.
func (x *child) end() {
	x.input.Close()
	kill := time.AfterFunc(5*time.Second, func() { x.cmd.Process.Kill() })
	x.cmd.Wait()
	kill.Stop()
}

// tell tells the worker to do something, and reads its answer.
func (x *child) tell(what string, numbers map[string]int, text url.Values, answer any) error {
	if text == nil {
		text = url.Values{}
	}
	for name, n := range numbers {
		text.Set(name, strconv.Itoa(n))
	}
	req, err := http.NewRequestWithContext(x.ctx, "POST", "http://"+x.Control+"/"+what, strings.NewReader(text.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", x.Name, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", body)
	}
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", x.Name, what, err)
	}
	return nil
}

func (x *child) measure(operation string, notes int, d time.Duration) (m measurement, err error) {
	numbers := map[string]int{"notes": notes, "ns": int(d)}
	err = x.tell("measure", numbers, url.Values{"operation": {operation}}, &m)
	return m, err
}

// visits has n visitors log in, and out again if told so.
func (x *child) visits(n int, out bool) error {
	switch {
	case x.Node && out:
		return errors.New("nobody logs out on Node")
	case x.Node:
		return x.visitsOverHTTP(n)
	}
	what := contender.Login
	if out {
		what = contender.Logout
	}
	return x.tell(what, map[string]int{"n": n}, nil, new(any))
}

// usage returns what the process has used, after a garbage collection if told so.
func (x *child) usage(collect bool) (u consumption, err error) {
	numbers := map[string]int{}
	if collect {
		numbers["collect"] = 1
	}
	err = x.tell("usage", numbers, nil, &u)
	return u, err
}

// visitsOverHTTP has n strangers log in over eight connections.
func (x *child) visitsOverHTTP(n int) error {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, 8)
	var visitors sync.WaitGroup
	for i := range errs {
		visitors.Go(func() {
			v := newVisitor(x)
			defer v.client.CloseIdleConnections()
			for left.Add(-1) >= 0 && errs[i] == nil {
				errs[i] = v.login(0)
			}
		})
	}
	visitors.Wait()
	return errors.Join(errs...)
}
