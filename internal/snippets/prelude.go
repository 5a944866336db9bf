// Package snippets has the names that the code in the documentation takes for granted. Its
// test compiles that code.
package snippets

import (
	"context"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/examples/moving/fromscs"
	"example.com/sealed/keystore"
	"example.com/sealed/pgstore"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// Session is the application's, unless a page has one of its own.
type Session struct {
	User string
	Cart []string
}

// What the pages say that there is.
var (
	ctx         context.Context
	keys        *sealed.Keyring
	wrapping    []sealed.Key
	sessions    *sealed.Manager[Session]
	m           = sessions
	revocations *revoke.Replica
	store       *pgstore.Store
	client      *redis.Client
	pool        *pgxpool.Pool
	mux         *http.ServeMux
	r           *http.Request
	server      *http.Server
	syncer      *keystore.Syncer
	e           *gin.Engine
	old         *scs.SessionManager
	user, hash  string
	longest     time.Duration
)

// A page uses some of the names, and of the packages.
var _ = []any{
	ctx, keys, wrapping, sessions, m, revocations, store, client, pool, mux, r, server, syncer, e, old, user, hash, longest,
	fromscs.Import[Session], keystore.Open, redisstore.New, pgx.BeginFunc,
}
