package e2e_test

import (
	"strings"
	"testing"
	"time"
)

// A person's visit in a real browser, with the secure default cookie on
// http://localhost.
func TestShopInBrowsers(t *testing.T) { inEachBrowser(t, visitShop) }

func visitShop(t *testing.T, name string) {
	shop := startShop(t, buildShop(t), "127.0.0.1:0", nil)
	base := strings.Replace(shop.url, "127.0.0.1", "localhost", 1)
	p := browsers[name](t, options{}).tab()
	defer p.close()
	p.visit(base)
	if c := p.cookies(); len(c) != 0 {
		t.Errorf("a first visit sets %v", c)
	}
	p.shots("home-empty")
	p.visit(base + "/session")
	p.want("main", "You have no session")
	p.shots("nosession")
	p.visit(base)

	p.click(`.tile-mug .button`)
	p.want(".flash", "Sealed mug is in your cart.")
	p.click(`.tile-tee .button`)
	p.click(`.tile-wax .button`)
	p.want(".cart", "Cookie tee")
	p.want(".total", "$46.00")
	cookies := p.cookies()
	if len(cookies) != 1 || cookies[0].Name != "__Host-session" || !cookies[0].Secure || !cookies[0].HTTPOnly || cookies[0].Expiry != 0 || cookies[0].SameSite != "lax" {
		t.Fatalf("the browser holds %+v", cookies)
	}
	p.visit(base)
	if strings.Contains(p.text("main"), "is in your cart") {
		t.Error("the flash message was shown twice")
	}

	p.click(`.bar .button`)
	p.shots("login")
	p.fill(`[name=user]`, "alice")
	p.fill(`[name=password]`, "wrong")
	p.click(`.stack .button`)
	p.want(".flash", "Wrong name or password")
	p.fill(`[name=password]`, "demo")
	p.press(`[name=remember]`)
	p.click(`.stack .button`)
	p.want(".flash", "Welcome, alice.")
	p.want(".total", "$46.00")
	if c := p.cookies(); len(c) != 1 || time.Until(time.Unix(c[0].Expiry, 0)) < 29*24*time.Hour {
		t.Errorf("a remembered session's cookie: %+v", c)
	}
	p.shots("home")

	p.click(`.tile-archive .button`)
	p.want("main", "does not fit into your session")
	p.shots("toolarge")
	p.click(`main .button`)
	p.want(".total", "$46.00")

	p.click(`[aria-label="Dark theme"]`)
	var theme string
	if p.eval(`document.documentElement.dataset.theme`, &theme); theme != "dark" {
		t.Errorf("theme %q after choosing dark", theme)
	}
	p.click(`[aria-label="Theme of the system"]`)

	p.visit(base + "/session")
	p.want("main", "Ciphertext")
	p.want("dl", "alice")
	before := p.text("dl")
	p.shots("session")
	p.visit(base + "/keys")
	p.click(`.head .button`)
	p.want(".flash", "Nobody was logged out")
	p.want(".bar", "alice")
	p.want("table", "pending")
	p.want("dl", "Next rotation")
	p.reload() // the flash message is gone
	p.want("dl", "all is well")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.text("table"), "retiring") && time.Now().Before(end); {
		time.Sleep(300 * time.Millisecond) // for the shop's clock, which is the real one
		p.reload()
	}
	p.want("table", "retiring")
	p.shots("keys")
	p.visit(base + "/session")
	p.reload()
	if after := p.text("dl"); after == before || !strings.Contains(after, "primary") || !strings.Contains(after, "alice") {
		t.Errorf("after rotation the session shows\n%s", after)
	}

	// A copy of the cookie, kept before logout, is worth nothing after it.
	copied := p.cookies()[0].Value.Value
	thief := newVisitor(t, shop.url)
	stolen := func() string {
		_, body := thief.do("GET", "/session", nil, "Accept", "application/json", "Cookie", "__Host-session="+copied)
		return body
	}
	if body := stolen(); !strings.Contains(body, `"subject": "alice"`) {
		t.Fatalf("the copy does not work before logout:\n%s", body)
	}
	p.click(`.who .quiet`)
	p.want(".flash", "You are logged out.")
	p.want(".cart", "Nothing in here yet")
	if body := stolen(); !strings.Contains(body, "revoked") {
		t.Errorf("the copy after logout:\n%s", body)
	}

	// The back button shows nobody's page to who comes next.
	p.back()
	p.becomes("dl", "nobody: not logged in")
	if text := p.text("body"); strings.Contains(text, "alice") {
		t.Errorf("the back button shows after logout:\n%s", text)
	}
}
