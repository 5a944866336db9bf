package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// clients visit URLs one after the other, with one cookie jar, and print the last answer.
var clients = []struct {
	name  string
	visit func(t *testing.T, urls ...string) *exec.Cmd
}{
	{"curl", func(t *testing.T, urls ...string) *exec.Cmd {
		jar := filepath.Join(t.TempDir(), "jar")
		var script string
		for _, u := range urls {
			script += fmt.Sprintf("curl -sk -c %[1]s -b %[1]s '%[2]s' >%[1]s.out; ", jar, u)
		}
		return exec.Command("sh", "-c", script+"cat "+jar+".out")
	}},
	{"wget", func(t *testing.T, urls ...string) *exec.Cmd {
		jar := filepath.Join(t.TempDir(), "jar")
		script := "touch " + jar + "; "
		for _, u := range urls {
			script += fmt.Sprintf("wget -q -O %[1]s.out --no-check-certificate --keep-session-cookies --save-cookies %[1]s --load-cookies %[1]s '%[2]s'; ", jar, u)
		}
		return exec.Command("sh", "-c", script+"cat "+jar+".out")
	}},
	{"Node fetch with tough-cookie", func(t *testing.T, urls ...string) *exec.Cmd {
		cmd := exec.Command("node", append([]string{"visit.js"}, urls...)...)
		cmd.Dir = "clients"
		cmd.Env = append(os.Environ(), "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_NO_WARNINGS=1")
		return cmd
	}},
	{"Python requests", func(t *testing.T, urls ...string) *exec.Cmd {
		return exec.Command("/usr/bin/python3", append([]string{"clients/visit.py"}, urls...)...) // Debian's, which has requests
	}},
}

// Programs keep or drop the cookie as the page says.
func TestClients(t *testing.T) {
	if _, err := os.Stat("clients/node_modules"); err != nil {
		npm := exec.Command("npm", "ci", "--no-audit", "--no-fund")
		npm.Dir = "clients"
		if out, err := npm.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	var rows strings.Builder
	rows.WriteString("| client | https | http://localhost | http://127.0.0.1 | the same, with `Insecure` |\n|---|---|---|---|---|\n")
	for _, client := range clients {
		fmt.Fprintf(&rows, "| %s", client.name)
		for _, at := range []struct {
			scheme, host string
			insecure     bool
		}{{"https", "localhost", false}, {"http", "localhost", false}, {"http", "127.0.0.1", false}, {"http", "127.0.0.1", true}} {
			m := sealedtest.Manager(t, sealed.Config[large]{Cookie: sealed.Cookie{Insecure: at.insecure}})
			mux := http.NewServeMux()
			mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *large) { s.Text = "alice" }); err != nil {
					t.Errorf("Update: %v", err)
				}
			})
			mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
				s, _ := m.Get(r.Context())
				fmt.Fprintf(w, "hello %s", s.Text)
			})
			server := httptest.NewUnstartedServer(m.Handler(mux))
			if at.scheme == "https" {
				server.StartTLS()
			} else {
				server.Start()
			}
			url := strings.Replace(server.URL, "127.0.0.1", at.host, 1)
			out, err := client.visit(t, url+"/login", url+"/me").CombinedOutput()
			server.Close()
			switch got := strings.TrimSpace(string(out)); {
			case err != nil:
				t.Fatalf("%s: %v\n%s", client.name, err, out)
			case got == "hello alice":
				rows.WriteString(" | kept")
			case got == "hello":
				rows.WriteString(" | dropped")
			default:
				t.Fatalf("%s: %q", client.name, got)
			}
		}
		rows.WriteString(" |\n")
	}
	checkPage(t, "../docs/clients.md", "clients", rows.String())
}
