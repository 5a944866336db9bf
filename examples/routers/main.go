// Routers runs the same small program on the router of your choice:
//
//	go run . chi
//	curl -c jar -b jar -X POST 'http://localhost:8080/login?user=alice'
//
// The cookie is Secure, as it should be: curl and most browsers take it from localhost.
package main

import (
	"fmt"
	"log"
	"maps"
	"net/http"
	"os"
	"slices"

	"example.com/sealed/examples/routers/chi"
	"example.com/sealed/examples/routers/connect"
	"example.com/sealed/examples/routers/echo4"
	"example.com/sealed/examples/routers/echo5"
	"example.com/sealed/examples/routers/gin"
	"example.com/sealed/examples/routers/gorilla"
	"example.com/sealed/examples/routers/huma"
	"example.com/sealed/examples/routers/servemux"
	"example.com/sealed/examples/routers/shop"
)

var programs = map[string]func(*shop.Sessions) http.Handler{
	"servemux": servemux.New, "chi": chi.New, "gorilla": gorilla.New, "echo4": echo4.New, "echo5": echo5.New,
	"gin": gin.New, "huma": huma.New, "connect": connect.New,
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		log.Fatalf("usage: go run . ROUTER, which is one of %v", slices.Sorted(maps.Keys(programs)))
	}
	sessions, err := shop.New()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s on http://localhost:8080\n", os.Args[1])
	log.Fatal(http.ListenAndServe("localhost:8080", programs[os.Args[1]](sessions)))
}
