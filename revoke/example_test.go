package revoke_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// In one process a List is enough. It is empty after a restart.
func ExampleNewList() {
	list := revoke.NewList()
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		panic(err)
	}
	sessions, err := sealed.New(keys, sealed.Config[string]{
		Subject:     func(user string) string { return user },
		Revocations: list,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(sessions.RevokeSubject(context.Background(), "alice"), list.Len())
	// Output:
	// <nil> 1
}

// Instances that follow one log refuse what was revoked on any of them. The log is as a
// rule that of redisstore or pgstore.
func ExampleFollow() {
	ctx := context.Background()
	log := new(revoke.Memory)
	var instances []*revoke.Replica
	for range 2 {
		replica, err := revoke.Follow(log, revoke.Policy{MaxStale: 5 * time.Second})
		if err != nil {
			panic(err)
		}
		defer replica.Close(ctx)
		if err := replica.Ready(ctx); err != nil { // before it serves
			panic(err)
		}
		instances = append(instances, replica)
	}
	now := time.Now()
	err := instances[0].Revoke(ctx, sealed.Revocation{Subject: "alice", Before: now, Until: now.Add(24 * time.Hour)})
	if err != nil {
		panic(err)
	}
	// By itself it takes a moment, and at most MaxStale.
	if err := instances[1].Refresh(ctx); err != nil {
		panic(err)
	}
	fmt.Println(instances[1].Check(ctx, sealed.Info{Subject: "alice", Created: now.Add(-time.Hour)}))
	// Output:
	// sealed: session revoked
}

// For a load balancer: an instance that would refuse every session takes no requests.
func ExampleReplica_Serving() {
	ctx := context.Background()
	replica, err := revoke.Follow(new(revoke.Memory), revoke.Policy{})
	if err != nil {
		panic(err)
	}
	defer replica.Close(ctx)
	ready := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := replica.Serving(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	if err := replica.Ready(ctx); err != nil {
		panic(err)
	}
	w := httptest.NewRecorder()
	ready.ServeHTTP(w, httptest.NewRequest("GET", "/ready", nil))
	fmt.Println(w.Code)
	// Output:
	// 200
}
