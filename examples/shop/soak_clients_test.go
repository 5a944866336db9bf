package main

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"example.com/sealed/sealedtest"
)

// A shopper is a visitor whose session is known.
type shopper struct {
	*soak
	name   string
	client *http.Client
	user   string
	theme  string
	cart   map[string]int
}

func (s *soak) shopper(name string, client *http.Client) *shopper {
	return &shopper{soak: s, name: name, client: client, cart: map[string]int{}}
}

func (v *shopper) request(method, path string, form url.Values) (status int, body string) {
	r, err := http.NewRequest(method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Error(err)
		return 0, ""
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if path == "/session" {
		r.Header.Set("Accept", "application/json")
	}
	v.requests.Add(1)
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Errorf("%s: %s %s: %v", v.name, method, path, err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Errorf("%s: %s %s: %v", v.name, method, path, err)
	}
	return res.StatusCode, string(text)
}

func (v *shopper) do(method, path string, form url.Values, want int) string {
	status, body := v.request(method, path, form)
	if status != want {
		v.t.Errorf("%s: %s %s: status %d, want %d", v.name, method, path, status, want)
	}
	return body
}

func (v *shopper) logIn(user string) {
	v.do("POST", "/login", url.Values{"user": {user}, "password": {"demo"}, "remember": {"1"}}, 200)
	v.user = user
}

// look compares the session with what the visitor did.
func (v *shopper) look() {
	var got struct {
		Subject string
		Data    struct {
			User, Theme string
			Cart        []struct {
				SKU string
				Qty int
			}
		}
	}
	if err := json.Unmarshal([]byte(v.do("GET", "/session", nil, 200)), &got); err != nil {
		v.t.Errorf("%s: %v", v.name, err)
		return
	}
	cart := map[string]int{}
	for _, i := range got.Data.Cart {
		cart[i.SKU] = i.Qty
	}
	if got.Subject != v.user || got.Data.User != v.user || got.Data.Theme != v.theme || fmt.Sprint(cart) != fmt.Sprint(v.cart) {
		v.t.Errorf("%s has lost something: %+v, want user %s, theme %s, cart %v", v.name, got, v.user, v.theme, v.cart)
	}
}

// shop does the next thing.
func (v *shopper) shop(n int) {
	sku := []string{"mug", "tee", "book", "lamp"}[n/3%4]
	switch n % 6 {
	case 0:
		if v.cart[sku] == 9 {
			v.do("POST", "/cart/remove", url.Values{"sku": {sku}}, 200)
			delete(v.cart, sku)
			return
		}
		body := v.do("POST", "/cart", url.Values{"sku": {sku}, "qty": {"1"}}, 200)
		v.cart[sku]++
		if again := v.do("GET", "/", nil, 200); !strings.Contains(body, "is in your cart") || strings.Contains(again, "is in your cart") {
			v.t.Errorf("%s: a flash message is shown %v, then %v", v.name, strings.Contains(body, "is in your cart"), strings.Contains(again, "is in your cart"))
		}
	case 3:
		v.theme = []string{"dark", "light"}[n/6%2]
		v.do("POST", "/theme", url.Values{"theme": {v.theme}}, 200)
	default:
		v.look()
	}
}

// stay is a visitor who logs in once, and is logged in to the end. Every other has a device.
func (s *soak) stay(i int) {
	transport := s.transport()
	defer transport.CloseIdleConnections()
	jar, _ := cookiejar.New(nil)
	client, device := &http.Client{Transport: transport, Jar: jar}, (*sealedtest.Device)(nil)
	if i%2 == 1 {
		device = sealedtest.NewDevice(s.t, transport)
		client = device.Client()
	}
	v := s.shopper(fmt.Sprintf("visitor %d", i), client)
	v.logIn("bob")
	s.until(pace, v.shop)
	v.look()
	if device != nil {
		s.signatures.Add(int64(device.Signatures()))
		thief := &shopper{soak: s, name: v.name + "'s thief", client: device.Thief(s.base, "__Host-session-proof-")}
		if status, _ := thief.request("GET", "/session", nil); status != 401 {
			s.t.Errorf("%s: a copy of the cookie without a proof: status %d, want 401", v.name, status)
		}
	}
}

// comeAndGo is alice, who logs in on three clients again and again, and out on one of
// them or everywhere.
func (s *soak) comeAndGo(i int) {
	transport := s.transport()
	defer transport.CloseIdleConnections()
	copyOf := func(v *shopper) *shopper {
		u, _ := url.Parse(s.base)
		jar, _ := cookiejar.New(nil)
		for _, c := range v.client.Jar.Cookies(u) {
			jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
		}
		return s.shopper(v.name+"'s copy", &http.Client{Transport: transport, Jar: jar})
	}
	refused := func(v *shopper) {
		if status, _ := v.request("GET", "/session", nil); status != 404 {
			s.t.Errorf("%s: status %d after logout, want 404", v.name, status)
		}
	}
	s.until(2*pace, func(n int) {
		if i == 0 { // one session
			jar, _ := cookiejar.New(nil)
			v := s.shopper("one of alice", &http.Client{Transport: transport, Jar: jar})
			v.do("POST", "/login", url.Values{"user": {"alice"}, "password": {"demo"}}, 200)
			copied := copyOf(v)
			v.do("POST", "/logout", url.Values{}, 200)
			refused(copied)
			s.logouts.Add(1)
			return
		}
		if n%16 != 0 {
			return
		}
		var copies []*shopper
		for range 3 {
			jar, _ := cookiejar.New(nil)
			v := s.shopper("all of alice", &http.Client{Transport: transport, Jar: jar})
			v.logIn("alice")
			v.look()
			copies = append(copies, copyOf(v))
			if len(copies) == 3 {
				v.do("POST", "/logout-everywhere", url.Values{}, 200)
			}
		}
		for _, c := range copies {
			refused(c)
			s.logouts.Add(1)
		}
	})
}

// abuses returns requests of clients that are broken, or mean.
func abuses() []func() string {
	garbage := func(n int) string {
		b := make([]byte, n)
		rand.Read(b)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	get := func(lines ...string) string {
		return "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	post := func(path, body string, lines ...string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n%s\r\n\r\n%s",
			path, len(body), strings.Join(lines, "\r\n"), body)
	}
	return []func() string{
		func() string { return get("Cookie: __Host-session=" + garbage(200)) },
		func() string { return get("Cookie: __Host-session=AQ" + garbage(120)) },
		func() string { return get("Cookie: " + strings.Repeat("__Host-session="+garbage(40)+"; ", 200)) },
		func() string { return get("Cookie: __Host-session=" + garbage(30_000)) },
		func() string {
			return get("Cookie: __Host-session=31." + garbage(40) + "; __Host-session.1=x; __Host-session.30=y")
		},
		func() string { return get("Cookie: \x00\x01;;;=;__Host-session") },
		func() string { return post("/device-binding", "", `Secure-Session-Response: "`+garbage(300)+`"`) },
		func() string { return post("/device-binding", "", `Sec-Secure-Session-Id: "`+garbage(300)+`"`) },
		func() string {
			return post("/device-binding", "", "Secure-Session-Response: a.b.c", "Authorization: "+garbage(20))
		},
		func() string { return post("/login", "user=alice&password="+garbage(50_000)) },
		func() string { return post("/login", "user=alice")[:60] }, // it hangs up, or never ends
		func() string { return post("/cart", "sku=archive&qty=99") },
		func() string {
			return post("/logout-everywhere", "", "Cookie: __Host-session="+garbage(150), "Sec-Fetch-Site: cross-site")
		},
		func() string { return strings.Repeat("\xff", 4096) },
	}
}

// misbehave sends them. None of it concerns the others; what each gets is an answer or a
// closed connection.
func (s *soak) misbehave() {
	abuses := abuses()
	config := &tls.Config{RootCAs: s.pool, ServerName: "localhost"}
	s.until(pace, func(n int) {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.base, "https://"), config)
		if err != nil {
			s.t.Errorf("dialing: %v", err)
			return
		}
		defer conn.Close()
		s.abuses.Add(1)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, abuses[n%len(abuses)]())
		if mathrand.IntN(2) == 0 {
			return // without waiting for the answer
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			s.t.Errorf("abuse %d has no answer: %v", n%len(abuses), err)
		}
		if err == nil && res.StatusCode >= 500 && res.StatusCode != http.StatusHTTPVersionNotSupported {
			s.t.Errorf("abuse %d: %s", n%len(abuses), res.Status)
		}
	})
}
