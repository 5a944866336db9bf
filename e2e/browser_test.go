package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// chromium starts a real browser, and skips nothing: without one the test fails.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path == "" {
			path, _ = exec.LookPath(name)
		}
	}
	if path == "" {
		t.Fatal("no Chromium: install it, or name it in CHROMIUM")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile(t)),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-sandbox", os.Geteuid() == 0), // the sandbox refuses root
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// profile returns an empty folder for the browser, which may still write to it for a
// moment when it has been told to end.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealed-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})
	return dir
}

// page is what a browser shows.
type page struct {
	t   *testing.T
	ctx context.Context
}

func (p page) run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// click clicks on what loads another page, and waits for that.
func (p page) click(selector string) {
	p.t.Helper()
	if _, err := chromedp.RunResponse(p.ctx, chromedp.Click(selector, chromedp.ByQuery, chromedp.NodeVisible)); err != nil {
		p.t.Fatalf("clicking %s: %v", selector, err)
	}
}

func (p page) text(selector string) string {
	p.t.Helper()
	var s string
	p.run(chromedp.Text(selector, &s, chromedp.ByQuery))
	return s
}

func (p page) want(selector, want string) {
	p.t.Helper()
	if got := p.text(selector); !strings.Contains(got, want) {
		p.t.Errorf("%s shows %q, want %q", selector, got, want)
	}
}

func (p page) cookies() []*network.Cookie {
	p.t.Helper()
	var cookies []*network.Cookie
	p.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		cookies, err = network.GetCookies().Do(ctx)
		return err
	}))
	return cookies
}

// shot takes a screenshot into the folder SHOTS, if that is set.
func (p page) shot(name string, width, height int64, dark bool) {
	dir := os.Getenv("SHOTS")
	if dir == "" {
		return
	}
	scheme := map[bool]string{true: "dark", false: "light"}[dark]
	var png []byte
	p.run(
		chromedp.EmulateViewport(width, height, chromedp.EmulateScale(1)),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.CaptureScreenshot(&png),
	)
	if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p page) shots(name string) {
	p.shot(name, 1200, 900, false)
	p.shot(name, 1200, 900, true)
	p.shot(name+"-narrow", 390, 844, false)
	p.shot(name+"-narrow", 390, 844, true)
	p.run(chromedp.EmulateViewport(1200, 900))
}

// A person's visit in a real browser, with the secure default cookie on
// http://localhost.
func TestShopInChromium(t *testing.T) {
	shop := startShop(t, buildShop(t), "127.0.0.1:0", nil)
	base := strings.Replace(shop.url, "127.0.0.1", "localhost", 1)
	p := page{t, chromium(t)}
	p.run(chromedp.EmulateViewport(1200, 900), chromedp.Navigate(base))
	if c := p.cookies(); len(c) != 0 {
		t.Errorf("a first visit sets %v", c)
	}
	p.shots("home-empty")
	p.run(chromedp.Navigate(base + "/session"))
	p.want("main", "You have no session")
	p.shots("nosession")
	p.run(chromedp.Navigate(base))

	p.click(`.tile-mug .button`)
	p.want(".flash", "Sealed mug is in your cart.")
	p.click(`.tile-tee .button`)
	p.click(`.tile-wax .button`)
	p.want(".cart", "Cookie tee")
	p.want(".total", "$46.00")
	cookies := p.cookies()
	if len(cookies) != 1 || cookies[0].Name != "__Host-session" || !cookies[0].Secure || !cookies[0].HTTPOnly || !cookies[0].Session || cookies[0].SameSite != network.CookieSameSiteLax {
		t.Fatalf("the browser holds %+v", cookies)
	}
	p.run(chromedp.Navigate(base))
	if strings.Contains(p.text("main"), "is in your cart") {
		t.Error("the flash message was shown twice")
	}

	p.click(`.bar .button`)
	p.shots("login")
	p.run(chromedp.SendKeys(`[name=user]`, "alice", chromedp.ByQuery), chromedp.SendKeys(`[name=password]`, "wrong", chromedp.ByQuery))
	p.click(`.stack .button`)
	p.want(".flash", "Wrong name or password")
	p.run(chromedp.SendKeys(`[name=password]`, "demo", chromedp.ByQuery), chromedp.Click(`[name=remember]`, chromedp.ByQuery))
	p.click(`.stack .button`)
	p.want(".flash", "Welcome, alice.")
	p.want(".total", "$46.00")
	if c := p.cookies(); len(c) != 1 || c[0].Session || time.Until(time.Unix(int64(c[0].Expires), 0)) < 29*24*time.Hour {
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
	p.run(chromedp.AttributeValue("html", "data-theme", &theme, nil, chromedp.ByQuery))
	if theme != "dark" {
		t.Errorf("theme %q after choosing dark", theme)
	}
	p.click(`[aria-label="Theme of the system"]`)

	p.run(chromedp.Navigate(base + "/session"))
	p.want("main", "Ciphertext")
	p.want("dl", "alice")
	before := p.text("dl")
	p.shots("session")
	p.run(chromedp.Navigate(base + "/keys"))
	p.click(`.head .button`)
	p.want(".flash", "Nobody was logged out")
	p.want(".bar", "alice")
	p.want("table", "pending")
	p.want("dl", "Next rotation")
	p.run(chromedp.Reload()) // the flash message is gone
	p.want("dl", "all is well")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.text("table"), "retiring") && time.Now().Before(end); {
		p.run(chromedp.Sleep(300*time.Millisecond), chromedp.Reload())
	}
	p.want("table", "retiring")
	p.shots("keys")
	p.run(chromedp.Navigate(base+"/session"), chromedp.Reload())
	if after := p.text("dl"); after == before || !strings.Contains(after, "primary") || !strings.Contains(after, "alice") {
		t.Errorf("after rotation the session shows\n%s", after)
	}

	// A copy of the cookie, kept before logout, is worth nothing after it.
	copied := p.cookies()[0].Value
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
	p.run(chromedp.NavigateBack())
	p.want("dl", "nobody: not logged in")
	if text := p.text("body"); strings.Contains(text, "alice") {
		t.Errorf("the back button shows after logout:\n%s", text)
	}
}
