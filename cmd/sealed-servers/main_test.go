package main_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/internal/commandtest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/keystore"
	"example.com/sealed/pgstore"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

func TestMain(m *testing.M) { commandtest.Main(m) }

// run runs the command, and wants an exit code and parts of what it prints.
func run(t *testing.T, env []string, code int, parts []string, args ...string) string {
	t.Helper()
	r := commandtest.Run(t, env, "", args...)
	r.Want(t, code, parts...)
	return r.Out
}

// A stolen key and a stolen cookie at three in the morning, on each engine, with programs
// that run.
func TestOnServers(t *testing.T) {
	redisServer := testserver.StartRedis(t)
	redisServer.MustDo("CONFIG", "SET", "requirepass", "test-password")
	for _, engine := range []string{"Redis", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			wrapping := sealed.GenerateKey()
			env := []string{"SESSION_WRAPPING_KEY=" + wrapping.Text()}
			var url string
			var log revoke.Log
			switch engine {
			case "Redis":
				client := redis.NewClient(&redis.Options{Addr: redisServer.Addr, Password: "test-password"})
				t.Cleanup(func() { client.Close() })
				s, err := redisstore.New(client, redisstore.Config{Prefix: "shop"})
				if err != nil {
					t.Fatal(err)
				}
				url, log = "redis://"+redisServer.Addr+"/0?prefix=shop", s
				env = append(env, "REDIS_PASSWORD=test-password")
				run(t, nil, 2, []string{"command line"}, "keys", "list", "redis://:test-password@"+redisServer.Addr)
			default:
				server := testserver.StartPostgres(t)
				pool, err := pgxpool.New(t.Context(), server.URL(server.Addr))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(pool.Close)
				s, err := pgstore.New(pool, pgstore.Config{Prefix: "shop"})
				if err == nil {
					err = s.Migrate(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Close)
				url, log = server.URL(server.Addr)+"&prefix=shop", s
			}

			run(t, env, 1, []string{"no keys"}, "keys", "list", url)
			run(t, env, 1, []string{"sealed keys init"}, "keys", "rotate", url)
			made := run(t, env, 0, []string{"Made "}, "keys", "init", url)
			id := regexp.MustCompile(`[0-9a-f]{8}`).FindString(made)
			run(t, env, 1, []string{"already"}, "keys", "init", url)
			run(t, env, 0, []string{"Added "}, "keys", "rotate", url)
			run(t, env, 0, []string{id + "  primary", "pending"}, "keys", "list", url)
			inspectOnServer(t, env, url, log.(keystore.Store), wrapping)
			copyOf := filepath.Join(t.TempDir(), "keys")
			run(t, env, 0, []string{"Wrote"}, "keys", "backup", url, copyOf)
			run(t, env, 0, []string{"Revoked " + id}, "keys", "revoke", url, id)
			run(t, env, 0, []string{id + "  revoked"}, "keys", "list", url)
			run(t, env, 1, []string{"already"}, "keys", "restore", url, copyOf)

			r, err := revoke.Follow(log, revoke.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			defer r.Close(ctx)
			if err := r.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			session := sealed.ID{1, 2, 3}
			run(t, env, 0, []string{"Revoked."}, "revocations", "revoke", url, session.String())
			run(t, env, 0, []string{"Revoked."}, "revocations", "revoke", "-subject", "alice", url)
			run(t, env, 2, []string{"32 hexadecimal digits"}, "revocations", "revoke", url, "xyz")
			run(t, env, 0, []string{session.String(), `subject "alice"`, "2 revocations."}, "revocations", "list", url)
			if err := r.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			for what, info := range map[string]sealed.Info{
				"the session": {ID: session}, "the subject's": {ID: sealed.ID{9}, Subject: "alice", Created: time.Now().Add(-time.Minute)},
			} {
				if err := r.Check(ctx, info); !errors.Is(err, sealed.ErrRevoked) {
					t.Errorf("%s, in a program that runs: %v", what, err)
				}
			}
			list := filepath.Join(t.TempDir(), "list")
			run(t, env, 0, []string{"Wrote"}, "revocations", "backup", url, list)
			run(t, env, 0, []string{"Added 2 revocations."}, "revocations", "restore", url, list)
			run(t, env, 1, []string{"is no copy"}, "revocations", "restore", url, copyOf)
		})
	}
	run(t, nil, 1, []string{"redis://"}, "keys", "list", "http://127.0.0.1/")
}

// inspectOnServer has the command open a session under the keys on a server.
func inspectOnServer(t *testing.T, env []string, url string, store keystore.Store, wrapping sealed.Key) {
	t.Helper()
	document, err := keystore.Read(t.Context(), store, []sealed.Key{wrapping})
	if err != nil {
		t.Fatal(err)
	}
	ring, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace(document.Keys); err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(ring, sealed.Config[string]{Purpose: "test"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := m.Seal("alice")
	if err != nil {
		t.Fatal(err)
	}
	r := commandtest.Run(t, env, token, "inspect", "-keys", url, "-name", "", "-purpose", "test")
	r.Want(t, 0, "alice", "it opens")
}

// Help names this program, and all that it can do.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"keys", "-h"}, {"revocations", "-h"}, {"inspect", "-h"}} {
		r := commandtest.Run(t, nil, "", args...)
		r.Want(t, 0, "Usage: sealed-servers ")
		if regexp.MustCompile(`(?m)^ +sealed (keys|revocations|inspect)`).MatchString(r.Out) {
			t.Errorf("%v names the other program:\n%s", args, r.Out)
		}
	}
	commandtest.Run(t, nil, "", "-h").Want(t, 0, "sealed-servers revocations list URL")
	commandtest.Run(t, nil, "", "keys").Want(t, 2, "sealed-servers: sealed-servers keys needs", "Run sealed-servers -h")
}

// It is the command sealed as well.
func TestOnFiles(t *testing.T) {
	env := []string{"SESSION_WRAPPING_KEY=" + sealed.GenerateKey().Text()}
	file := filepath.Join(t.TempDir(), "keys")
	run(t, env, 0, []string{"Made "}, "keys", "init", file)
	run(t, env, 0, []string{"Wrote"}, "keys", "backup", file, file+".copy")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	run(t, env, 0, []string{"Restored"}, "keys", "restore", file, file+".copy")
	run(t, env, 0, []string{"primary"}, "keys", "list", file)
}
