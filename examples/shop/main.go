// Shop is a small shop that shows what package sealed does: a cart, login with
// "remember me", flash messages, a theme, logout here and everywhere, a page
// that lays the visitor's own cookie open, and key rotation. There is no
// database: each visitor's session is in the visitor's cookie.
//
//	go run ./examples/shop
//
// With -tls it serves HTTPS, binds sessions to the visitor's device, and shows what a stolen cookie is
// worth then.
package main

import (
	"context"
	"crypto/tls"
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
	secure := flag.Bool("tls", false, "serve HTTPS with a certificate made at each start, and bind sessions to the visitor's device")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*addr, *keyFile, *insecure, *secure); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(addr, keyFile string, insecure, secure bool) error {
	if insecure && secure {
		return errors.New("-insecure and -tls contradict each other")
	}
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
	config.Insecure, config.Bind, config.Log = insecure, secure, log
	shop, err := app.New(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: shop, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	scheme, serve := "http", func() error { return server.Serve(listener) }
	if secure {
		certificate, pin, err := selfSigned(time.Now())
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
		scheme, serve = "https", func() error { return server.ServeTLS(listener, "", "") }
		fmt.Printf("The certificate is made for this start. Chromium takes it, and binds sessions without a chip, with\n"+
			"  --ignore-certificate-errors-spki-list=%s --enable-features=DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting\n", pin)
	}
	fmt.Printf("The shop is open at %s://%s (log in as alice or bob, password demo)\n", scheme, listener.Addr())

	go func() {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(timeout)
	}()
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
