package keystore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// This test runs its own binary as the servers.
const (
	serveFile     = "KEYSTORE_TEST_FILE"
	serveWrapping = "KEYSTORE_TEST_WRAPPING"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(serveFile); path != "" {
		fmt.Fprintln(os.Stderr, serve(path, os.Getenv(serveWrapping)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A visitor is the session of the servers.
type visitor struct {
	Name   string
	Visits int
}

// serve is one server. It prints its address, and runs until it is killed.
func serve(path, wrappingText string) error {
	wrapping, err := keystore.ParseWrapping(wrappingText)
	if err != nil {
		return err
	}
	keys, err := keystore.Open(context.Background(), keystore.NewFile(path), wrapping, keystore.Policy{
		CreateIfEmpty: true,
		RotateEvery:   time.Second, Lead: time.Second, Retain: 15 * time.Second, Poll: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	sessions, err := sealed.New(keys.Keyring(), sealed.Config[visitor]{Lifetime: 12 * time.Second, Cookie: sealed.Cookie{Insecure: true, Name: "session"}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Update(r.Context(), func(v *visitor) { *v = visitor{Name: r.FormValue("name")} }); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		info, err := sessions.Info(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if err := sessions.Renew(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if err := sessions.Update(r.Context(), func(v *visitor) { v.Visits++ }); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		v, err := sessions.Get(r.Context())
		fmt.Fprintln(w, v.Name, v.Visits, info.KeyID, err)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := http.Server{Handler: sessions.Handler(mux), ReadHeaderTimeout: time.Second}
	return server.Serve(listener)
}

// A fleet is eight servers on one key file.
type fleet struct {
	t        *testing.T
	file     string
	wrapping sealed.Key

	mu    sync.Mutex
	addrs [8]string
	procs [8]*exec.Cmd
	kills int
}

// start starts the n-th server, and returns when it serves.
func (f *fleet) start(n int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveFile+"="+f.file, serveWrapping+"="+f.wrapping.Text())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		f.t.Error(err)
		return
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	f.mu.Lock()
	defer f.mu.Unlock()
	f.procs[n] = cmd
	if err != nil {
		f.t.Errorf("server %d did not start: %v", n, err)
		return
	}
	f.addrs[n] = strings.TrimSpace(addr)
}

func (f *fleet) kill(n int) {
	f.mu.Lock()
	cmd := f.procs[n]
	f.procs[n], f.addrs[n] = nil, ""
	f.kills++
	f.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill() // SIGKILL
		cmd.Wait()
	}
}

// pick returns the address of a server that may be up.
func (f *fleet) pick() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if addr := f.addrs[rand.IntN(len(f.addrs))]; addr != "" {
			return addr
		}
	}
}

// visit lets one visitor come again and again, to any server. What the visitor
// has seen must still be so.
func (f *fleet) visit(ctx context.Context, name string, pause time.Duration) (visits int, keys map[string]bool) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Error(err)
		return 0, nil
	}
	client := &http.Client{Jar: jar, Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	keys = map[string]bool{}
	get := func(path string) (string, int, bool) {
		res, err := client.Get("http://" + f.pick() + path)
		if err != nil {
			return "", 0, false // the server was killed: another one answers
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), res.StatusCode, err == nil || res.StatusCode != http.StatusOK
	}
	for {
		if _, status, ok := get("/login?name=" + url.QueryEscape(name)); ok && status == http.StatusOK {
			break
		}
	}
	for ctx.Err() == nil {
		// Part of what the jar holds may come from a response whose end was
		// cut off, so the count may be one ahead.
		body, status, ok := get("/")
		if !ok {
			continue
		}
		var got, key, failed string
		var count int
		fmt.Sscan(body, &got, &count, &key, &failed)
		if status != http.StatusOK || got != name || count <= visits || failed != "<nil>" {
			f.t.Errorf("%s, after %d visits: status %d, %s", name, visits, status, strings.TrimSpace(body))
			return visits, keys
		}
		visits, keys[key] = count, true
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(2 * pause)):
		}
	}
	return visits, keys
}

// Eight copies of a server on one key file are killed at random, while keys rotate
// every second and visitors go from one to another. Nobody is logged out, and the
// file is whole whenever it is looked at.
func TestProcesses(t *testing.T) {
	f := &fleet{t: t, file: filepath.Join(t.TempDir(), "keys"), wrapping: sealed.GenerateKey()}
	var starting sync.WaitGroup
	for n := range f.addrs {
		starting.Go(func() { f.start(n) }) // all at once, on no file
	}
	starting.Wait()
	if t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			n := rand.IntN(len(f.addrs))
			f.kill(n)
			f.start(n)
			time.Sleep(rand.N(200 * time.Millisecond))
		}
	})
	reads := 0
	all.Go(func() {
		for ctx.Err() == nil {
			if _, err := keystore.Read(t.Context(), keystore.NewFile(f.file), []sealed.Key{f.wrapping}); err != nil {
				t.Errorf("the file: %v", err)
				return
			}
			reads++
			time.Sleep(5 * time.Millisecond)
		}
	})
	var mu sync.Mutex
	total, keys := 0, map[string]bool{}
	for n := range 16 {
		pause := 20 * time.Millisecond
		if n%2 == 1 {
			pause = 2 * time.Second // away for some rotations
		}
		all.Go(func() {
			visits, seen := f.visit(ctx, "visitor"+strconv.Itoa(n), pause)
			mu.Lock()
			defer mu.Unlock()
			total += visits
			for k := range seen {
				keys[k] = true
			}
		})
	}
	all.Wait()
	for n := range f.addrs {
		f.kill(n)
	}
	t.Logf("%d visits under %d keys, %d servers killed, the file read %d times", total, len(keys), f.kills, reads)
	if len(keys) < 10 || f.kills < 20 || total < 500 {
		t.Error("that is too little to show anything")
	}
}
