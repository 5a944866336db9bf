package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// Two programs that share a file have one keyring: what one seals the other opens.
func ExampleOpen() {
	folder, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	store := keystore.NewFile(filepath.Join(folder, "session-keys"))
	wrapping := []sealed.Key{sealed.GenerateKey()} // as a rule, from keystore.ParseWrapping

	ctx := context.Background()
	var programs []*sealed.Manager[string]
	for range 2 {
		keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{
			CreateIfEmpty: true,
			Retain:        31 * 24 * time.Hour, // no session lasts longer than 30 days
			Observe:       func(e keystore.Event) { fmt.Println("a key was", e.Kind) },
		})
		if err != nil {
			log.Fatal(err)
		}
		defer keys.Close()
		m, err := sealed.New(keys.Keyring(), sealed.Config[string]{Purpose: "example", Lifetime: 30 * 24 * time.Hour})
		if err != nil {
			log.Fatal(err)
		}
		programs = append(programs, m)
	}
	token, err := programs[0].Seal("alice")
	if err != nil {
		log.Fatal(err)
	}
	session, _, err := programs[1].Open(ctx, token)
	fmt.Println(session, err)
	// Output:
	// a key was created
	// a key was created
	// a key was learned
	// a key was learned
	// alice <nil>
}

// A key that may be known to others ends with all that was sealed under it.
func ExampleSyncer_Revoke() {
	ctx := context.Background()
	keys, err := keystore.Open(ctx, new(keystore.Memory), []sealed.Key{sealed.GenerateKey()}, keystore.Policy{CreateIfEmpty: true})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	for _, k := range keys.Status().Keys {
		if k.State == sealed.KeyPrimary {
			err = keys.Revoke(ctx, k.ID)
		}
	}
	fmt.Println(err)
	for _, k := range keys.Status().Keys {
		fmt.Println(k.State)
	}
	// Output:
	// <nil>
	// pending
	// primary
	// revoked
}

// The first key is made once, by whoever sets the site up; an empty store is an error
// everywhere else.
func ExampleInit() {
	ctx := context.Background()
	store := new(keystore.Memory) // as a rule, a File, or the store of redisstore or pgstore
	wrapping := []sealed.Key{sealed.GenerateKey()}

	_, err := keystore.Open(ctx, store, wrapping, keystore.Policy{})
	fmt.Println(errors.Is(err, keystore.ErrEmpty))
	if _, err := keystore.Init(ctx, store, wrapping); err != nil {
		log.Fatal(err)
	}
	keys, err := keystore.Open(ctx, store, wrapping, keystore.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	fmt.Println(keys.Health())
	// Output:
	// true
	// <nil>
}

// Keys from a secret that an orchestrator mounts, and replaces when it rotates.
func ExampleNewMounted() {
	folder, err := os.MkdirTemp("", "secret")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "session-keys")
	ctx, wrapping := context.Background(), []sealed.Key{sealed.GenerateKey()}
	if _, err := keystore.Init(ctx, keystore.NewFile(path), wrapping); err != nil { // who writes the secret
		log.Fatal(err)
	}
	keys, err := keystore.Open(ctx, keystore.NewMounted(path), wrapping, keystore.Policy{})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	_, err = keys.Rotate(ctx)
	fmt.Println(errors.Is(err, keystore.ErrReadOnly))
	// Output:
	// true
}

// The wrapping key comes from the environment: the present one, and before a rotation of it
// also the one to come.
func ExampleParseWrapping() {
	text := sealed.GenerateKey().Text() + " " + sealed.GenerateKey().Text() // os.Getenv("SESSION_WRAPPING_KEY")
	wrapping, err := keystore.ParseWrapping(text)
	fmt.Println(len(wrapping), err)
	// Output:
	// 2 <nil>
}
