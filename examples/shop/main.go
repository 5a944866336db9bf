// Shop is a small shop that shows what package sealed does: a cart, login with
// "remember me", flash messages, a theme, logout here and everywhere, a page
// that lays the visitor's own cookie open, and key rotation. There is no
// database: each visitor's session is in the visitor's cookie.
//
//	go run ./examples/shop
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/sealed/examples/shop/app"
	"example.com/sealed/keystore"
)

const usage = `Usage: shop [flags]

The session keys are kept in a file, sealed under the key in SESSION_WRAPPING_KEY,
or else in a second file. SESSION_KEYS, if set, takes the place of both: keys
separated by white space or commas, of which the first seals. A system that
cannot keep keys in a file, such as Windows, has them in memory.

`

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	keyFile := flag.String("keys", "shop.keys", "file with the session keys, unless SESSION_KEYS is set; made at the first run")
	insecure := flag.Bool("insecure", false, "a cookie without Secure: for Safari, which refuses it on http://localhost")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*addr, *keyFile, *insecure); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(addr, keyFile string, insecure bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	inFile := func(path string) keystore.Store { return keystore.NewFile(path) }
	config, closeKeys, err := openKeys(ctx, keyFile, inFile, log)
	if err != nil {
		return err
	}
	defer closeKeys()
	fmt.Println(config.Where)
	config.Insecure, config.Log = insecure, log
	shop, err := app.New(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: shop, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	fmt.Printf("The shop is open at http://%s (log in as alice or bob, password demo)\n", listener.Addr())

	go func() {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(timeout)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
