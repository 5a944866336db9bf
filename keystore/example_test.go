package keystore_test

import (
	"context"
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
