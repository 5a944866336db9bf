package sealed_test

import (
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
)

// Each bad field is refused by New, with its name in the error.
func TestNewRefuses(t *testing.T) {
	type config = sealed.Config[Session]
	type cookie = sealed.Cookie
	long := strings.Repeat("x", 2000)
	for _, tt := range []struct {
		name   string
		config config
		want   string
	}{
		{"__Host- with Domain", config{Cookie: cookie{Domain: "shop.example"}}, "Cookie.Domain"},
		{"__Host- with Path", config{Cookie: cookie{Path: "/shop"}}, "Cookie.Path"},
		{"__host- in lower case", config{Cookie: cookie{Name: "__host-x", Path: "/shop"}}, "Cookie.Path"},
		{"__Host- insecure", config{Cookie: cookie{Name: "__Host-x", Insecure: true}}, "Cookie.Insecure"},
		{"__Secure- insecure", config{Cookie: cookie{Name: "__secure-x", Insecure: true}}, "Cookie.Insecure"},
		{"__Http- insecure", config{Cookie: cookie{Name: "__Http-x", Insecure: true}}, "Cookie.Insecure"},
		{"SameSite None insecure", config{Cookie: cookie{SameSite: http.SameSiteNoneMode, Insecure: true}}, "SameSite None"},
		{"Partitioned insecure", config{Cookie: cookie{Partitioned: true, Insecure: true}}, "Partitioned"},
		{"unknown SameSite", config{Cookie: cookie{SameSite: 9}}, "SameSite 9"},
		{"negative SameSite", config{Cookie: cookie{SameSite: -1}}, "SameSite -1"},
		{"name with a space", config{Cookie: cookie{Name: "a b"}}, "Cookie.Name"},
		{"name with =", config{Cookie: cookie{Name: "a=b"}}, "Cookie.Name"},
		{"name with ;", config{Cookie: cookie{Name: "a;b"}}, "Cookie.Name"},
		{"name with a line break", config{Cookie: cookie{Name: "a\nb"}}, "Cookie.Name"},
		{"name not ASCII", config{Cookie: cookie{Name: "ä"}}, "Cookie.Name"},
		{"the name of a chunk", config{Cookie: cookie{Name: "session.2"}}, "Cookie.Name"},
		{"long name", config{Cookie: cookie{Name: long[:256]}}, "Cookie.Name"},
		{"path with ;", config{Cookie: cookie{Name: "a", Path: "/;x"}}, "Path"},
		{"path with a line break", config{Cookie: cookie{Name: "a", Path: "/\r\nx"}}, "Path"},
		{"path without /", config{Cookie: cookie{Name: "a", Path: "x"}}, "Cookie.Path"},
		{"long path", config{Cookie: cookie{Name: "a", Path: "/" + long}}, "Cookie.Path"},
		{"domain with a space", config{Cookie: cookie{Name: "a", Domain: "a b"}}, "Domain"},
		{"domain with ;", config{Cookie: cookie{Name: "a", Domain: "a;b"}}, "Domain"},
		{"IPv6 domain", config{Cookie: cookie{Name: "a", Domain: "::1"}}, "Domain"},
		{"long domain", config{Cookie: cookie{Name: "a", Domain: long}}, "Domain"},
		{"negative MaxChunks", config{Cookie: cookie{MaxChunks: -1}}, "MaxChunks -1"},
		{"17 chunks", config{Cookie: cookie{MaxChunks: 17}}, "MaxChunks 17"},
		{"negative lifetime", config{Lifetime: -1}, "Lifetime -1ns"},
		{"401 days", config{Lifetime: 401 * 24 * time.Hour}, "400 days"},
		{"a nanosecond", config{Lifetime: 1}, "Lifetime 1ns"},
		{"negative idle timeout", config{IdleTimeout: -time.Second}, "IdleTimeout -1s"},
		{"idle timeout of a nanosecond", config{IdleTimeout: 1}, "IdleTimeout 1ns"},
		{"idle over lifetime", config{Lifetime: time.Hour, IdleTimeout: 2 * time.Hour}, "IdleTimeout 2h"},
		{"idle over default lifetime", config{IdleTimeout: 25 * time.Hour}, "IdleTimeout 25h"},
		{"long purpose", config{Purpose: long}, "Purpose"},
	} {
		m, err := sealed.New(mustRing(t), tt.config)
		if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	// All at once.
	_, err := sealed.New(nil, config{Lifetime: -1, IdleTimeout: -1, Purpose: long, Cookie: cookie{Domain: "x", MaxChunks: -1}})
	for _, want := range []string{"no keys", "Lifetime", "IdleTimeout", "Purpose", "Domain", "MaxChunks"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the joined error lacks %q: %v", want, err)
		}
	}
	if _, err := sealed.New(&sealed.Keyring{}, config{}); err == nil {
		t.Error("New took an empty keyring")
	}
}

// What is allowed makes the cookie that it says.
func TestNewAccepts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cookie sealed.Cookie
		want   string
	}{
		{"default", sealed.Cookie{}, "__Host-session=; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"insecure", sealed.Cookie{Insecure: true}, "session=; Path=/; HttpOnly; SameSite=Lax"},
		{"default mode", sealed.Cookie{SameSite: http.SameSiteDefaultMode}, "__Host-session=; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"strict", sealed.Cookie{Path: "/", SameSite: http.SameSiteStrictMode}, "__Host-session=; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"none, partitioned", sealed.Cookie{SameSite: http.SameSiteNoneMode, Partitioned: true}, "__Host-session=; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"domain and path", sealed.Cookie{Name: "__Secure-s", Domain: ".shop.example", Path: "/a b"}, `__Secure-s=; Path=/a b; Domain=shop.example; HttpOnly; Secure; SameSite=Lax`},
	} {
		m, err := sealed.New(mustRing(t), sealed.Config[Session]{Cookie: tt.cookie})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		res := newBrowser(t).login(m, "alice")
		line := res.Header.Get("Set-Cookie")
		value := res.Cookies()[0].Value
		if got := strings.Replace(line, value, "", 1); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

type hidden struct{ _, _ string }

type number int

type embedded struct{ A int }

type reader interface{ Read() }

// A session type that would lose data in silence is refused.
func TestSessionTypes(t *testing.T) {
	for name, err := range map[string]error{
		"unexported fields only": newErr[hidden](t),
		"hidden inside":          newErr[struct{ H []*hidden }](t),
		"a channel":              newErr[struct{ C chan int }](t),
		"a function":             newErr[map[string]func()](t),
		"an interface":           newErr[struct{ R reader }](t),
		"a complex number":       newErr[struct{ C complex128 }](t),
		"a map key":              newErr[map[complex64]int](t),
		"two fields, one key": newErr[struct {
			A int `cbor:"1,keyasint"`
			B int `cbor:"1,keyasint"`
		}](t),
		"left out by json": newErr[struct {
			A int `json:"-"`
			B int
		}](t),
		"an embedded number":  newErr[struct{ number }](t),
		"an embedded pointer": newErr[struct{ *embedded }](t),
	} {
		if err == nil || !strings.Contains(err.Error(), "session type") {
			t.Errorf("%s: %v, want an error about the session type", name, err)
		}
	}
	type recursive struct {
		Next *recursive
		Any  any
	}
	for name, err := range map[string]error{
		"a map":           newErr[map[string]int](t),
		"a pointer":       newErr[*Session](t),
		"a string":        newErr[string](t),
		"recursive":       newErr[recursive](t),
		"marshals itself": newErr[struct{ A netip.Addr }](t),
		"a time":          newErr[struct{ T time.Time }](t),
		"a big number":    newErr[struct{ N *big.Int }](t),
		"a field that is left": newErr[struct {
			A int
			b hidden
			C chan int `cbor:"-"`
		}](t),
		"an empty struct":   newErr[struct{}](t),
		"an embedded one":   newErr[struct{ Session }](t),
		"an unexported one": newErr[struct{ embedded }](t),
		"a json name": newErr[struct {
			A int `json:"a"`
		}](t),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newErr[T any](t *testing.T) error {
	_, err := sealed.New(mustRing(t), sealed.Config[T]{})
	return err
}

// Types of all kinds keep what is stored in them.
func TestTypesSurvive(t *testing.T) {
	type all struct {
		Addr  netip.Addr
		Big   *big.Int
		Float float64
		Bytes []byte
		Map   map[string]int
		Any   any
		Array [3]uint8
		Bool  *bool
	}
	yes := true
	n, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	want := all{netip.MustParseAddr("2001:db8::1"), n, 0.1, []byte{1, 2}, map[string]int{"a": 1}, "any", [3]uint8{1, 2, 3}, &yes}
	m := mustNew(t, mustRing(t), sealed.Config[all]{})
	token, err := m.Seal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := m.Open(t.Context(), token)
	if err != nil || fmt.Sprint(got.Addr, got.Big, got.Float, got.Bytes, got.Map, got.Any, got.Array, *got.Bool) != fmt.Sprint(want.Addr, want.Big, want.Float, want.Bytes, want.Map, want.Any, want.Array, yes) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// Under GODEBUG=fips140=only New says that the cipher is not available. The
// mode is fixed when a process starts, so the test runs itself in one.
func TestFIPS(t *testing.T) {
	if os.Getenv("SEALED_TEST_FIPS") != "" {
		ring, err := sealed.NewKeyring(sealed.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		_, err = sealed.New(ring, sealed.Config[Session]{})
		fmt.Printf("New: %v\n", err)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), "SEALED_TEST_FIPS=1", "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if exit != nil || !strings.Contains(string(out), "XChaCha20-Poly1305 is not available") {
		t.Errorf("%v, output:\n%s", err, out)
	}
}
