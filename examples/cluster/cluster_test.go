package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
)

// A visitor keeps the Secure cookie over http://, as browsers do on localhost.
type visitor struct {
	t      *testing.T
	base   string
	cookie string
}

func (v *visitor) do(method, path string, form url.Values) string {
	v.t.Helper()
	req, err := http.NewRequest(method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if v.cookie != "" {
		req.Header.Set("Cookie", v.cookie)
	}
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 500 {
		v.t.Fatalf("%s %s: %s, %v\n%s", method, path, res.Status, err, body)
	}
	for _, c := range res.Cookies() {
		v.cookie = c.Name + "=" + c.Value
	}
	return string(body)
}

func (v *visitor) session() (s struct{ Subject, Error string }) {
	v.t.Helper()
	if err := json.Unmarshal([]byte(v.do("GET", "/session", nil)), &s); err != nil {
		v.t.Fatal(err)
	}
	return s
}

// A session that was begun on one instance goes on on all, through a rotation of
// the keys; and logged out on one, a copy of its cookie is dead on all.
func TestCluster(t *testing.T) {
	bin := build(t)
	for _, balancer := range []string{"nginx", "own"} {
		t.Run(balancer, func(t *testing.T) {
			front, instances := startCluster(t, bin, balancer)
			v := &visitor{t: t, base: front}
			v.do("POST", "/login", url.Values{"user": {"alice"}, "password": {"demo"}})
			served := map[string]bool{}
			for range 9 {
				if s := v.session(); s.Subject != "alice" {
					t.Fatalf("an instance does not know the session: %+v", s)
				}
				for _, name := range regexp.MustCompile(`comes from <b>(shop-\d)</b>`).FindAllStringSubmatch(v.do("GET", "/", nil), -1) {
					served[name[1]] = true
				}
			}
			if len(served) != 3 {
				t.Errorf("served by %v, want all three", served)
			}
			v.do("POST", "/keys/rotate", nil)
			for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if s := v.session(); s.Subject != "alice" {
					t.Fatalf("while keys rotate: %+v", s)
				}
			}
			thief := *v
			v.do("POST", "/cluster/copy", nil)
			if page := v.do("GET", "/cluster", nil); strings.Count(page, "lets in alice") != 3 || strings.Count(page, "served this page") != 1 || strings.Count(page, "up to date") != 3 {
				t.Errorf("the page before logout:\n%s", page)
			}
			v.do("POST", "/logout", nil)
			time.Sleep(time.Second) // a poll, at the most
			for _, base := range append(instances, front) {
				thief.base = base
				if s := thief.session(); !strings.Contains(s.Error, "revoked") {
					t.Errorf("%s takes a copy of the cookie after logout: %+v", base, s)
				}
			}
			if page := v.do("GET", "/cluster", nil); strings.Count(page, "session revoked") != 3 {
				t.Errorf("the page after logout:\n%s", page)
			}
		})
	}
}

// While nobody can tell whether a session was revoked, the shop answers 503, and
// leaves the cookie alone: nobody is logged out when Redis is back.
func TestUnverified(t *testing.T) {
	server := testserver.StartRedis(t)
	front, _ := startCluster(t, build(t), "own", "REDIS_URL=redis://"+server.Addr, "SESSION_WRAPPING_KEY="+sealed.GenerateKey().Text())
	v := &visitor{t: t, base: front}
	v.do("POST", "/login", url.Values{"user": {"alice"}, "password": {"demo"}})
	get := func(path string) *http.Response {
		req, err := http.NewRequest("GET", front+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", v.cookie)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	server.Stop()
	statuses := func(want int) bool {
		for range 3 { // the instances in turn
			for _, path := range []string{"/", "/session", "/healthz"} {
				if get(path).StatusCode != want {
					return false
				}
			}
		}
		return true
	}
	within := func(d time.Duration, want int) {
		t.Helper()
		for end := time.Now().Add(d); !statuses(want); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not all answer %d after %v", want, d)
			}
		}
	}
	within(20*time.Second, http.StatusServiceUnavailable)
	for range 3 {
		if res := get("/"); len(res.Cookies()) != 0 {
			t.Errorf("the cookie is touched: %v", res.Cookies())
		}
	}
	server.Continue()
	within(20*time.Second, http.StatusOK)
	if s := v.session(); s.Subject != "alice" {
		t.Errorf("after Redis is back: %+v", s)
	}
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func startCluster(t *testing.T, bin, balancer string, env ...string) (front string, instances []string) {
	t.Helper()
	cmd := exec.Command(bin, "-addr", "127.0.0.1:0", "-balancer", balancer)
	cmd.Env = append(append(os.Environ(), "REDIS_URL="), env...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the cluster ends with %v", err)
		}
	})
	lines := bufio.NewScanner(stdout)
	var out strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&out, lines.Text())
		if _, addr, ok := strings.Cut(lines.Text(), " listens on "); ok {
			instances = append(instances, addr)
		}
		if _, rest, ok := strings.Cut(lines.Text(), "is open at "); ok {
			front, _, _ = strings.Cut(rest, "/cluster")
			break
		}
	}
	if front == "" || len(instances) != 3 {
		t.Fatalf("the cluster did not start:\n%s", &out)
	}
	return front, instances
}

// Every metric of the alerts and of the dashboard is one that an instance has.
func TestMetricsAreThere(t *testing.T) {
	_, instances := startCluster(t, build(t), "own")
	v := &visitor{t: t, base: instances[0]}
	v.do("POST", "/login", url.Values{"user": {"alice"}, "password": {"demo"}})
	page := v.do("GET", "/metrics", nil)
	names := regexp.MustCompile(`sealed_[a-z_]+`)
	for _, file := range []string{"monitoring/alerts.yml", "monitoring/dashboard.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".json" && !json.Valid(text) {
			t.Errorf("%s is no JSON", file)
		}
		used := names.FindAllString(string(text), -1)
		if len(used) < 10 {
			t.Errorf("%s uses %d metrics", file, len(used))
		}
		for _, name := range used {
			if !strings.Contains(page, "\n"+name+" ") && !strings.Contains(page, "\n"+name+"{") {
				t.Errorf("%s uses %s, which is not in\n%s", file, name, page)
				return
			}
		}
	}
	if strings.Contains(page, "alice") {
		t.Error("the metrics tell who is there")
	}
}
