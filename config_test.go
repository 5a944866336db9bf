package sealed_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
)

type Config = sealed.Config[Session]

var longText = strings.Repeat("x", 2000)

// A refusal is a Config that New refuses, with want in the error.
type refusal struct {
	name   string
	config Config
	want   string
}

func newRefuses(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, tt := range refusals {
		m, err := sealed.New(mustRing(t), tt.config)
		if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

// newAccepts checks whether New accepts a Config at a bound.
func newAccepts(t *testing.T, ok bool, what string, config Config) {
	t.Helper()
	if _, err := sealed.New(mustRing(t), config); (err == nil) != ok {
		t.Errorf("%s: %v, want accepted: %v", what, err, ok)
	}
}

func TestCookieNameWithPrefixHasItsAttributes(t *testing.T) {
	newRefuses(t, []refusal{
		{"__Host- with Domain", Config{Cookie: sealed.Cookie{Domain: "shop.example"}}, "Cookie.Domain"},
		{"__Host- with Path", Config{Cookie: sealed.Cookie{Path: "/shop"}}, "Cookie.Path"},
		{"__host- in lower case", Config{Cookie: sealed.Cookie{Name: "__host-x", Path: "/shop"}}, "Cookie.Path"},
		{"__Host- insecure", Config{Cookie: sealed.Cookie{Name: "__Host-x", Insecure: true}}, "Cookie.Insecure"},
		{"__Secure- insecure", Config{Cookie: sealed.Cookie{Name: "__secure-x", Insecure: true}}, "Cookie.Insecure"},
		{"__Http- insecure", Config{Cookie: sealed.Cookie{Name: "__Http-x", Insecure: true}}, "Cookie.Insecure"},
	})
	newAccepts(t, false, "a name that is the prefix", Config{Cookie: sealed.Cookie{Name: "__Host-", Path: "/x"}})
}

func TestInsecureCookieIsNeitherForeignNorPartitioned(t *testing.T) {
	newRefuses(t, []refusal{
		{"SameSite None insecure", Config{Cookie: sealed.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}}, "SameSite None"},
		{"Partitioned insecure", Config{Cookie: sealed.Cookie{Partitioned: true, Insecure: true}}, "Partitioned"},
	})
}

func TestUnknownSameSiteIsRefused(t *testing.T) {
	newRefuses(t, []refusal{
		{"unknown SameSite", Config{Cookie: sealed.Cookie{SameSite: 9}}, "SameSite 9"},
		{"negative SameSite", Config{Cookie: sealed.Cookie{SameSite: -1}}, "SameSite -1"},
	})
}

func TestCookieNameIsAToken(t *testing.T) {
	newRefuses(t, []refusal{
		{"name with a space", Config{Cookie: sealed.Cookie{Name: "a b"}}, "Cookie.Name"},
		{"name with =", Config{Cookie: sealed.Cookie{Name: "a=b"}}, "Cookie.Name"},
		{"name with ;", Config{Cookie: sealed.Cookie{Name: "a;b"}}, "Cookie.Name"},
		{"name with a line break", Config{Cookie: sealed.Cookie{Name: "a\nb"}}, "Cookie.Name"},
		{"name not ASCII", Config{Cookie: sealed.Cookie{Name: "ä"}}, "Cookie.Name"},
		{"the name of a chunk", Config{Cookie: sealed.Cookie{Name: "session.2"}}, "Cookie.Name"},
	})
}

func TestCookiePathIsAPath(t *testing.T) {
	newRefuses(t, []refusal{
		{"path with ;", Config{Cookie: sealed.Cookie{Name: "a", Path: "/;x"}}, "Path"},
		{"path with a line break", Config{Cookie: sealed.Cookie{Name: "a", Path: "/\r\nx"}}, "Path"},
		{"path without /", Config{Cookie: sealed.Cookie{Name: "a", Path: "x"}}, "Cookie.Path"},
	})
}

func TestCookieDomainIsADomain(t *testing.T) {
	newRefuses(t, []refusal{
		{"domain with a space", Config{Cookie: sealed.Cookie{Name: "a", Domain: "a b"}}, "Domain"},
		{"domain with ;", Config{Cookie: sealed.Cookie{Name: "a", Domain: "a;b"}}, "Domain"},
		{"IPv6 domain", Config{Cookie: sealed.Cookie{Name: "a", Domain: "::1"}}, "Domain"},
	})
}

func TestCookieLengthsAreBounded(t *testing.T) {
	newRefuses(t, []refusal{
		{"long name", Config{Cookie: sealed.Cookie{Name: longText[:256]}}, "Cookie.Name"},
		{"long path", Config{Cookie: sealed.Cookie{Name: "a", Path: "/" + longText}}, "Cookie.Path"},
		{"long domain", Config{Cookie: sealed.Cookie{Name: "a", Domain: longText}}, "Domain"},
	})
	newAccepts(t, true, "255 bytes of name", Config{Cookie: sealed.Cookie{Name: longText[:255]}})
	newAccepts(t, true, "1024 bytes of path", Config{Cookie: sealed.Cookie{Name: "a", Path: "/" + longText[:1023]}})
	newAccepts(t, false, "1025 bytes of path", Config{Cookie: sealed.Cookie{Name: "a", Path: "/" + longText[:1024]}})
}

func TestMaxChunksIsAtMost16(t *testing.T) {
	newRefuses(t, []refusal{
		{"negative MaxChunks", Config{Cookie: sealed.Cookie{MaxChunks: -1}}, "MaxChunks -1"},
		{"17 chunks", Config{Cookie: sealed.Cookie{MaxChunks: 17}}, "MaxChunks 17"},
	})
}

func TestLifetimeIsBounded(t *testing.T) {
	newRefuses(t, []refusal{
		{"negative lifetime", Config{Lifetime: -1}, "Lifetime -1ns"},
		{"401 days", Config{Lifetime: 401 * 24 * time.Hour}, "400 days"},
		{"a nanosecond", Config{Lifetime: 1}, "Lifetime 1ns"},
	})
	newAccepts(t, true, "a millisecond", Config{Lifetime: time.Millisecond})
	newAccepts(t, true, "400 days", Config{Lifetime: 400 * 24 * time.Hour})
	newAccepts(t, false, "400 days and 1 ns", Config{Lifetime: 400*24*time.Hour + 1})
}

func TestIdleTimeoutIsAtMostTheLifetime(t *testing.T) {
	newRefuses(t, []refusal{
		{"negative idle timeout", Config{IdleTimeout: -time.Second}, "IdleTimeout -1s"},
		{"idle timeout of a nanosecond", Config{IdleTimeout: 1}, "IdleTimeout 1ns"},
		{"idle over lifetime", Config{Lifetime: time.Hour, IdleTimeout: 2 * time.Hour}, "IdleTimeout 2h"},
		{"idle over default lifetime", Config{IdleTimeout: 25 * time.Hour}, "IdleTimeout 25h"},
	})
	newAccepts(t, true, "idle for a millisecond", Config{IdleTimeout: time.Millisecond})
	newAccepts(t, true, "idle as long as it lives", Config{IdleTimeout: 24 * time.Hour})
}

func TestPurposeHasAtMost255Bytes(t *testing.T) {
	newRefuses(t, []refusal{
		{"long purpose", Config{Purpose: longText}, "Purpose"},
	})
	newAccepts(t, true, "255 bytes of purpose", Config{Purpose: longText[:255]})
	newAccepts(t, false, "256 bytes of purpose", Config{Purpose: longText[:256]})
}

func TestNewTellsAllErrorsAtOnce(t *testing.T) {
	_, err := sealed.New(nil, Config{Lifetime: -1, IdleTimeout: -1, Purpose: longText, Cookie: sealed.Cookie{Domain: "x", MaxChunks: -1}})
	for _, want := range []string{"no keys", "Lifetime", "IdleTimeout", "Purpose", "Domain", "MaxChunks"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the joined error lacks %q: %v", want, err)
		}
	}
}

func TestNewWithoutKeysIsRefused(t *testing.T) {
	if _, err := sealed.New(&sealed.Keyring{}, Config{}); err == nil {
		t.Error("New took an empty keyring")
	}
}

func TestCookieHasTheAttributesOfItsConfig(t *testing.T) {
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
		m, err := sealed.New(mustRing(t), Config{Cookie: tt.cookie})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		res := requestTo(cmp.Or(tt.cookie.Path, "/"), m, func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })
		line := res.Header.Get("Set-Cookie")
		value := res.Cookies()[0].Value
		if got := strings.Replace(line, value, "", 1); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Under GODEBUG=fips140=only New says that the cipher is not available. The
// mode is fixed when a process starts, so the test runs itself in one.
func TestFIPS(t *testing.T) {
	if os.Getenv("SEALED_TEST_FIPS") != "" {
		_, err := sealed.New(mustRing(t), Config{})
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
