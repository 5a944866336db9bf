package contender

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// sealedSessions is this library, as its README uses it.
type sealedSessions struct{ m *sealed.Manager[Session] }

func subject(s Session) string {
	if s.UserID == 0 {
		return ""
	}
	return strconv.FormatInt(s.UserID, 10)
}

func newSealed(e Environment, list sealed.RevocationList) (Sessions, error) {
	keys, err := sealed.ParseKeyring(e.Key)
	if err != nil {
		return nil, err
	}
	m, err := sealed.New(keys, sealed.Config[Session]{
		Subject:     subject,
		Revocations: list,
		Cookie:      sealed.Cookie{MaxChunks: e.Cookies},
	})
	return sealedSessions{m}, err
}

func openSealed(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newSealed(e, nil)
	return x, func() {}, err
}

func openSealedMemory(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newSealed(e, revoke.NewList())
	return x, func() {}, err
}

func openSealedRedis(ctx context.Context, e Environment) (Sessions, func(), error) {
	return followRedis(ctx, e, revoke.Policy{})
}

func openSealedStale(ctx context.Context, e Environment) (Sessions, func(), error) {
	return followRedis(ctx, e, revoke.Policy{AcceptStale: true})
}

func followRedis(ctx context.Context, e Environment, p revoke.Policy) (Sessions, func(), error) {
	client := newRedis(e)
	store, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	list, err := revoke.Follow(store, p)
	if err != nil {
		return nil, nil, err
	}
	if err := list.Ready(ctx); err != nil {
		return nil, nil, err
	}
	x, err := newSealed(e, list)
	return x, func() { _ = list.Close(ctx); client.Close() }, err
}

// newRedis returns a client whose pool is no bottleneck.
func newRedis(e Environment) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: e.Redis, PoolSize: poolSize})
}

// poolSize is how many connections to its store a contender may have.
const poolSize = 64

func (x sealedSessions) Wrap(h http.Handler) http.Handler { return x.m.Handler(h) }

func (x sealedSessions) Get(r *http.Request) (Session, error) {
	s, err := x.m.Get(r.Context())
	if errors.Is(err, sealed.ErrUnverified) {
		return Session{}, err
	}
	return s, nil
}

func (x sealedSessions) Change(_ http.ResponseWriter, r *http.Request, change func(*Session)) error {
	return x.m.Update(r.Context(), change)
}

func (x sealedSessions) Login(_ http.ResponseWriter, r *http.Request, s Session) error {
	return x.m.Update(r.Context(), func(v *Session) { *v = s })
}

func (x sealedSessions) Logout(_ http.ResponseWriter, r *http.Request) error {
	return x.m.Destroy(r.Context())
}
