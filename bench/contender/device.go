package contender

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// Sessions that are bound to a key of the visitor's device, and such that could be.
const (
	Unbound = "sealed, device binding on"
	Bound   = "sealed, bound to a device"
)

// bindable is sealed with device binding on.
type bindable struct{ sealedSessions }

func openBindable(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newBindable(e)
	return x, func() {}, err
}

func newBindable(e Environment) (x bindable, err error) {
	keys, err := sealed.ParseKeyring(e.Key)
	if err == nil {
		x.m, err = sealed.New(keys, sealed.Config[Session]{Subject: subject, DeviceBinding: &sealed.DeviceBinding{}})
	}
	return x, err
}

// bound is the same with a device that registers its key.
type bound struct{ bindable }

func openBound(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newBindable(e)
	return bound{x}, func() {}, err
}

// Cookies logs in from a device, and returns its cookies once the session is bound.
func (b bound) Cookies() ([]*http.Cookie, error) {
	const site = "https://shop.example"
	d := sealedtest.NewDevice(program{}, sealedtest.Serve(NewApplication(b)))
	for _, path := range []string{"/login", "/read", "/read"} {
		r, err := http.NewRequest(Method(path[1:]), site+path, nil)
		if err != nil {
			return nil, err
		}
		if _, err := d.Client().Do(r); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(site)
	if err != nil {
		return nil, err
	}
	cookies := d.Jar.Cookies(u)
	if len(cookies) != 2 {
		return nil, fmt.Errorf("%d cookies, want the session's and the proof's", len(cookies))
	}
	return cookies, nil
}

// A program is a [testing.TB] that ends with a panic: package sealedtest is for tests.
type program struct{ testing.TB }

func (program) Helper()                   {}
func (program) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
