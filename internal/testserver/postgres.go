package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Postgres is a PostgreSQL server with a cluster of its own, and a superuser
// postgres who needs no password.
type Postgres struct {
	*Process
	Addr   string
	t      TB
	folder string
	port   int
	args   []string
}

// StartPostgres makes a cluster and starts a server on it, small unless args say
// otherwise. Without PostgreSQL the test fails: it is part of CI.
func StartPostgres(t TB, args ...string) *Postgres {
	t.Helper()
	p := newPostgres(t)
	p.args = args
	p.run("initdb", "-D", p.folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
	p.Restart()
	return p
}

func newPostgres(t TB) *Postgres {
	t.Helper()
	// Not t.TempDir, whose parents are not for the user postgres.
	folder, err := os.MkdirTemp("", "sealed-postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if uid, gid, ok := postgresUser(); ok {
		if err := os.Chown(folder, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	return &Postgres{t: t, folder: folder, port: port, Addr: fmt.Sprint("127.0.0.1:", port)}
}

// postgresUser returns whom to run as: PostgreSQL does not run as root.
func postgresUser() (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

// command returns one of the programs of PostgreSQL.
func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	path, err := exec.LookPath(name)
	if len(found) > 0 { // Debian's folder, past the wrappers of others
		path, err = slices.Max(found), nil
	}
	if err != nil {
		p.t.Fatalf("no %s: install PostgreSQL (Debian: postgresql)", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	if uid, gid, ok := postgresUser(); ok {
		runAs(cmd, uid, gid)
	}
	return cmd
}

func (p *Postgres) run(name string, args ...string) {
	p.t.Helper()
	if out, err := p.command(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Restart starts the server again, after Kill, with the data that it has.
func (p *Postgres) Restart() {
	p.t.Helper()
	os.Remove(filepath.Join(p.folder, "postmaster.pid"))
	args := append([]string{"-D", p.folder, "-p", fmt.Sprint(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "shared_buffers=32MB",
		"-c", "max_connections=60", "-c", "wal_level=replica", "-c", "hot_standby=on"}, p.args...)
	p.Process = start(p.t, p.command("postgres", args...))
	p.t.Cleanup(p.Kill)
	within(p.t, 30*time.Second, "postgres", p.Process, func() error {
		return p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", fmt.Sprint(p.port), "-U", "postgres").Run()
	})
}

// Kill ends the server and all that it has started as a power failure does.
func (p *Postgres) Kill() {
	p.signal(stop, p.PIDs()...) // so that it starts nothing more
	p.signal(os.Kill, p.PIDs()...)
	p.Process.Kill()
}

// Stop stops the server and all that it has started in its tracks.
func (p *Postgres) Stop() { p.signal(stop, p.PIDs()...) }

// Continue ends Stop.
func (p *Postgres) Continue() { p.signal(proceed, p.PIDs()...) }

// Forget has the next Restart start with an empty cluster.
func (p *Postgres) Forget() {
	p.t.Helper()
	fresh := newPostgres(p.t)
	p.folder = fresh.folder
	p.run("initdb", "-D", p.folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
}

// Copy copies the data of the server, which is not running.
func (p *Postgres) Copy() (folder string) {
	p.t.Helper()
	folder = newPostgres(p.t).folder
	if out, err := exec.Command("cp", "-a", p.folder+"/.", folder).CombinedOutput(); err != nil {
		p.t.Fatalf("copying: %v\n%s", err, out)
	}
	return folder
}

// Restore has the next Restart start with a copy.
func (p *Postgres) Restore(folder string) { p.folder = folder }

// Standby starts a replica that follows the server at addr.
func (p *Postgres) Standby(addr string) *Postgres {
	p.t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	s := newPostgres(p.t)
	s.run("pg_basebackup", "-D", s.folder, "-R", "-X", "stream", "-h", host, "-p", port, "-U", "postgres", "-c", "fast")
	if err := os.Chmod(s.folder, 0o700); err != nil {
		p.t.Fatal(err)
	}
	s.Restart()
	return s
}

// Promote makes a standby a primary.
func (p *Postgres) Promote() {
	p.t.Helper()
	p.run("pg_ctl", "promote", "-D", p.folder, "-w")
}

// URL returns how to connect to an address, the server's or a proxy's.
func (p *Postgres) URL(addr string) string {
	return "postgres://postgres@" + addr + "/postgres?sslmode=disable&connect_timeout=2"
}

// Pgbouncer starts a pgbouncer before the server, which gives each transaction a
// connection of its own, and returns where it is.
func (p *Postgres) Pgbouncer(t TB) (addr string) {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Fatal("no pgbouncer: install it (Debian: pgbouncer)")
	}
	folder := newPostgres(t).folder
	port := freePort(t)
	users, config := filepath.Join(folder, "users"), filepath.Join(folder, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%d\nunix_socket_dir=\nauth_type=trust\nauth_file=%s\npool_mode=transaction\ndefault_pool_size=3\n", p.port, port, users)
	for file, text := range map[string]string{users: "\"postgres\" \"\"\n", config: text} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, config)
	cmd.Dir = "/"
	if uid, gid, ok := postgresUser(); ok {
		runAs(cmd, uid, gid)
	}
	process := start(t, cmd)
	addr = fmt.Sprint("127.0.0.1:", port)
	within(t, 10*time.Second, "pgbouncer", process, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	return addr
}
