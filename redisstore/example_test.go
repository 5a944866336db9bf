package redisstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// One instance of many, which share their keys and their revocation list by a Redis.
func ExampleNew() {
	onRedis(instance)
	// Output:
	// <nil>
}

func instance(addr string) error {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	store, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		return err
	}
	wrapping := []sealed.Key{sealed.GenerateKey()}                 // keystore.ParseWrapping(os.Getenv("SESSION_WRAPPING_KEY"))
	if _, err := keystore.Init(ctx, store, wrapping); err != nil { // once for the site: sealed-servers keys init
		return err
	}
	keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{})
	if err != nil {
		return err
	}
	defer keys.Close()
	revocations, err := revoke.Follow(store, revoke.Policy{})
	if err != nil {
		return err
	}
	defer revocations.Close(ctx)
	sessions, err := sealed.New(keys.Keyring(), sealed.Config[string]{
		Lifetime:    30 * 24 * time.Hour,
		Subject:     func(user string) string { return user },
		Revocations: revocations,
	})
	if err != nil {
		return err
	}
	if err := revocations.Ready(ctx); err != nil { // before it takes requests
		return err
	}
	fmt.Println(sessions.RevokeSubject(ctx, "alice"))
	return nil
}
