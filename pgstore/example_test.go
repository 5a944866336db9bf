package pgstore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

type userSession struct{ User string }

// accounts is what changes passwords.
type accounts struct {
	pool     *pgxpool.Pool
	store    *pgstore.Store
	sessions *sealed.Manager[userSession]
}

// longest is how long a session lasts, and by how much clocks differ.
const longest = 30*24*time.Hour + 5*time.Minute

// changePassword ends all sessions of the user but this one, together with the
// change or not at all.
func (a *accounts) changePassword(ctx context.Context, hash string) error {
	if err := a.sessions.Renew(ctx); err != nil { // this one goes on, under a new ID
		return err
	}
	here, err := a.sessions.Info(ctx)
	if err != nil {
		return err
	}
	before := here.Created.Add(-time.Millisecond)
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE users SET password = $1 WHERE name = $2", hash, here.Subject); err != nil {
			return err
		}
		return a.store.RevokeTx(ctx, tx, sealed.Revocation{Subject: here.Subject, Before: before, Until: before.Add(longest)})
	})
}

// A new password, and out everywhere but here, in one transaction.
func ExampleStore_RevokeTx() {
	a := &accounts{ /* pool, store, sessions */ }
	http.HandleFunc("POST /password", func(w http.ResponseWriter, r *http.Request) {
		if err := a.changePassword(r.Context(), "the hash of "+r.PostFormValue("new")); err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
		}
	})
}

func TestChangePassword(t *testing.T) {
	server := testserver.StartPostgres(t)
	execSQL(t, server, "CREATE TABLE users (name text PRIMARY KEY, password text); INSERT INTO users VALUES ('alice', 'old')")
	a := &accounts{pool: pool(t, server.URL(server.Addr))}
	var err error
	if a.store, err = pgstore.New(a.pool, pgstore.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.store.Close)
	mustMigrate(t, a.store)
	list, err := revoke.Follow(a.store, revoke.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Close(context.Background()) })
	if err := list.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	a.sessions, err = sealed.New(keys, sealed.Config[userSession]{
		Revocations: list, Lifetime: 30 * 24 * time.Hour, Subject: func(s userSession) string { return s.User },
	})
	if err != nil {
		t.Fatal(err)
	}
	visit := func(cookie *string, handle func(context.Context) error) error {
		var err error
		r, w := httptest.NewRequest("POST", "https://shop.example/", nil), httptest.NewRecorder()
		r.Header.Set("Cookie", *cookie)
		a.sessions.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { err = handle(r.Context()) })).ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			*cookie = c.Name + "=" + c.Value
		}
		return err
	}
	login := func(ctx context.Context) error {
		return a.sessions.Update(ctx, func(s *userSession) { s.User = "alice" })
	}
	see := func(ctx context.Context) error { _, err := a.sessions.Get(ctx); return err }
	var phone, laptop string
	for _, cookie := range []*string{&phone, &laptop} {
		if err := visit(cookie, login); err != nil {
			t.Fatal(err)
		}
	}
	stolen := laptop
	time.Sleep(5 * time.Millisecond) // sessions go by the millisecond, and the server's clock is real
	if err := visit(&laptop, func(ctx context.Context) error { return a.changePassword(ctx, "new") }); err != nil {
		t.Fatal(err)
	}
	if err := list.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := visit(&laptop, see); err != nil {
		t.Errorf("here: %v", err)
	}
	if err := visit(&phone, see); err == nil {
		t.Error("the phone is logged in still")
	}
	if err := visit(&stolen, see); err == nil {
		t.Error("a copy of this session's cookie is logged in still")
	}
	if err := visit(&phone, login); err != nil {
		t.Errorf("a new login: %v", err)
	}
	if err := visit(&phone, see); err != nil {
		t.Errorf("after a new login: %v", err)
	}
}
