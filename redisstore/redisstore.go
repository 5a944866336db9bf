// Package redisstore keeps revocations and session keys on Redis 6.2 or newer, or on
// a server that speaks its language (streams, scripts). One [Store] is a
// [revoke.Log] for [revoke.Follow] and a [keystore.Store] for [keystore.Open]:
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	store, err := redisstore.New(client, redisstore.Config{})
//	revocations, err := revoke.Follow(store, revoke.Policy{})
//	keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{CreateIfEmpty: true})
//
// No request asks Redis: each instance follows it from memory.
//
// # What the server must be configured to
//
// A write is acknowledged when one server has it in memory. What that is worth is
// the server's configuration:
//
//   - maxmemory-policy must be noeviction: any other may drop the log or the keys.
//   - With appendonly yes and appendfsync always, what was acknowledged survives a
//     crash; with everysec, the default, up to a second of it is lost.
//   - With replicas, [Config.Replicas] has each write wait until so many have it. A
//     failover to one of them then loses nothing that was acknowledged; to another
//     one it may. Redis does not choose by that, so that this is no proof. It also has
//     instances notice that they read a master which was replaced while it was cut off:
//     one of them writes a heartbeat each second, and without one that was acknowledged
//     they are stale. Without Replicas nothing tells: the old master must be fenced off.
//
// A user needs the commands ping, eval, evalsha, time, hget, hset, hmget, hkeys, hdel,
// append, getrange, del, xadd, xtrim, xrange, xrevrange and xread, with Replicas also wait,
// on the keys PREFIX:* and {PREFIX:revocations}:*; and info, if [Store.Inspect] is to look
// at the settings.
//
// What a server loses is found out, and instances that know it give it back. It is
// lost for good only if all of them have stopped by then.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

// Config is optional. The zero Config has the defaults.
type Config struct {
	// Prefix begins the names of the Redis keys: PREFIX:keys, PREFIX:revocations, and
	// others that begin with {PREFIX:revocations}. Default "sealed".
	Prefix string

	// Replicas is how many replicas must have a write before it is acknowledged
	// (WAIT). Default none. If there are too few, Revoke returns an error, and the
	// write has happened on the others.
	Replicas int

	// WaitTimeout is how long to wait for the replicas: at least a millisecond, and less than the
	// client's ReadTimeout and [revoke.Policy].Timeout. Default one second.
	WaitTimeout time.Duration
}

// A Store is a [revoke.Log] and a [keystore.Store] on Redis. Its methods may be
// called concurrently.
type Store struct {
	client redis.UniversalClient
	config Config
	stream string // the tail: see log.go
	index  string
	parts  string // begins the names of the parts
	keys   string
}

var (
	_ revoke.Log       = (*Store)(nil)
	_ revoke.Inspector = (*Store)(nil)
	_ keystore.Store   = (*Store)(nil)
)

// New returns a store on a client, which stays the caller's: nothing of the store
// needs to be closed. It makes no connection.
//
// A replica keeps one connection of the client's pool waiting for news. A call whose
// context ends gives its connection back when the server answers, or after the
// client's ReadTimeout.
func New(client redis.UniversalClient, config Config) (*Store, error) {
	if client == nil {
		return nil, errors.New("redisstore: no client")
	}
	if config.Replicas < 0 {
		return nil, errors.New("redisstore: negative Replicas")
	}
	if config.WaitTimeout < time.Millisecond && config.WaitTimeout != 0 { // to Redis, 0 is for ever
		return nil, errors.New("redisstore: WaitTimeout is less than a millisecond")
	}
	if _, ring := client.(*redis.Ring); ring {
		return nil, errors.New("redisstore: a Ring keeps keys on servers that know nothing of each other: use one server, Sentinel or a Cluster")
	}
	if config.Prefix == "" {
		config.Prefix = "sealed"
	}
	if config.WaitTimeout == 0 {
		config.WaitTimeout = time.Second
	}
	// What one script works on must be on one server of a Cluster. What is in braces, or
	// the whole name, says where a key belongs.
	stream := config.Prefix + ":revocations"
	tagged := stream
	if !strings.Contains(stream, "{") {
		tagged = "{" + stream + "}"
	}
	return &Store{client, config, stream, tagged + ":index", tagged + ":part:", config.Prefix + ":keys"}, nil
}

// run runs a script, and returns its answer. It names the script by its hash, and
// sends it only to a server that does not know it.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	return within(ctx, s, func(ctx context.Context) (any, error) {
		return script.Run(ctx, s.client, keys, args...).Result()
	})
}

// write runs a script, and waits for replicas. Both go over one connection, as
// WAIT speaks of what that has written.
func (s *Store) write(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	if s.config.Replicas == 0 {
		return s.run(ctx, script, keys, args...)
	}
	return within(ctx, s, func(ctx context.Context) (any, error) {
		node, err := s.master(ctx, keys[0])
		if err != nil {
			return nil, err
		}
		var answer, wait *redis.Cmd
		_, err = node.Pipelined(ctx, func(p redis.Pipeliner) error {
			answer = script.Eval(ctx, p, keys, args...)
			wait = p.Do(ctx, "WAIT", s.config.Replicas, s.config.WaitTimeout.Milliseconds())
			return nil
		})
		if err != nil {
			return nil, err
		}
		if n, err := wait.Int(); err != nil || n < s.config.Replicas {
			return nil, fmt.Errorf("%d replicas have the write, want %d", n, s.config.Replicas)
		}
		return answer.Result()
	})
}

// master returns who has a key: on a Redis Cluster, WAIT would go to any node.
func (s *Store) master(ctx context.Context, key string) (redis.Cmdable, error) {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return s.client, nil
}

// within makes a call that ends with its context, which go-redis does not do while
// it waits for an answer. The connection is freed by the client's ReadTimeout.
//
// A client of a Cluster asks who has a key once a minute, and in between goes on calling
// a node that has died. So it is told to ask after each failure.
func within[T any](ctx context.Context, s *Store, call func(context.Context) (T, error)) (v T, err error) {
	defer func() {
		if cluster, ok := s.client.(*redis.ClusterClient); ok && err != nil && !errors.Is(err, redis.Nil) {
			cluster.ReloadState(ctx)
		}
	}()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := call(ctx)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

func wrapped(what string, err error) error {
	return fmt.Errorf("redisstore: %s: %w", what, err)
}
