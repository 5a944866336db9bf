// Command sealed-servers is the command sealed on Redis and PostgreSQL: in place of a
// key file it takes the URL of a server, and it looks after revocations.
//
//	sealed-servers keys list redis://127.0.0.1:6379/0
//	sealed-servers keys revoke postgres://app@db/shop ID
//	sealed-servers revocations revoke -subject alice redis://127.0.0.1:6379/0
//
// The prefix of the names there is "sealed", or what ?prefix= at the end of the URL says.
// A password comes from REDIS_PASSWORD, or as PostgreSQL's own programs take it, from
// PGPASSWORD or a password file. rediss:// is Redis over TLS. Of Redis with Sentinel or as
// a Cluster, name the master of the keys.
package main

import (
	"context"
	"errors"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed/internal/command"
	"example.com/sealed/pgstore"
	"example.com/sealed/redisstore"
)

func main() { os.Exit(command.Main(connect)) }

func connect(ctx context.Context, u *url.URL) (command.Server, func(), error) {
	q := u.Query()
	prefix := q.Get("prefix")
	q.Del("prefix")
	u.RawQuery = q.Encode()
	switch u.Scheme {
	case "redis", "rediss":
		options, err := redis.ParseURL(u.String())
		if err != nil {
			return nil, nil, err
		}
		options.Password = os.Getenv("REDIS_PASSWORD")
		options.DisableIdentity = true
		client := redis.NewClient(options)
		s, err := redisstore.New(client, redisstore.Config{Prefix: prefix})
		return s, func() { client.Close() }, err
	case "postgres", "postgresql":
		pool, err := pgxpool.New(ctx, u.String())
		if err != nil {
			return nil, nil, errors.New("that is not the URL of a PostgreSQL server")
		}
		s, err := pgstore.New(pool, pgstore.Config{Prefix: prefix})
		return s, pool.Close, err
	}
	return nil, nil, errors.New("the URL of a server begins with redis://, rediss:// or postgres://")
}
