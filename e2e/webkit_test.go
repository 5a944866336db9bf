package e2e_test

import (
	"strings"
	"testing"
	"time"
)

// A webkit is WebKitGTK's small browser, which judges cookies as Safari does. It speaks
// the classic protocol only, and needs a display.
type webkit struct {
	t       *testing.T
	session string // the URL
	stop    func()
}

func startWebKit(t *testing.T) *webkit {
	t.Helper()
	display, xvfb := start(t, `^(\d+)$`, nil, program(t, "XVFB", "Xvfb"), "-displayfd", "1", "-nolisten", "tcp")
	addr := freeAddress(t)
	host, port, _ := strings.Cut(addr, ":")
	_, driver := start(t, "", []string{"DISPLAY=:" + display}, program(t, "WEBKITDRIVER", "WebKitWebDriver"), "--host="+host, "--port="+port)
	if !listens(addr) {
		t.Fatal("WebKitWebDriver does not listen")
	}
	var session struct{ SessionID string }
	url := "http://" + addr + "/session"
	webDriver(t, "POST", url, map[string]any{"capabilities": map[string]any{}}, &session)
	return &webkit{t, url + "/" + session.SessionID, func() { driver.stop(); xvfb.stop() }}
}

func (w *webkit) close() {
	w.t.Helper()
	webDriver(w.t, "DELETE", w.session, nil, nil)
	w.stop()
}

func (w *webkit) visit(url string) {
	w.t.Helper()
	webDriver(w.t, "POST", w.session+"/url", map[string]string{"url": url}, nil)
}

func (w *webkit) eval(script string, result any) {
	w.t.Helper()
	webDriver(w.t, "POST", w.session+"/execute/sync", map[string]any{"script": script, "args": []any{}}, result)
}

func (w *webkit) text(selector string) string {
	w.t.Helper()
	var s string
	w.eval(`return document.querySelector("`+selector+`")?.innerText ?? "nothing"`, &s)
	return s
}

func (w *webkit) becomes(selector, want string) {
	w.t.Helper()
	for range 200 {
		if strings.Contains(w.text(selector), want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Errorf("%s shows %q, want %q", selector, w.text(selector), want)
}

// Safari and WebKitGTK drop the secure cookie on http://localhost. The shop says so; with
// -insecure they keep it.
func TestShopInWebKit(t *testing.T) {
	for _, flags := range [][]string{nil, {"-insecure"}} {
		shop := startShop(t, buildShop(t), "127.0.0.1:0", nil, flags...)
		w := startWebKit(t)
		w.visit(strings.Replace(shop.url, "127.0.0.1", "localhost", 1) + "/login")
		w.eval(`document.querySelector("[name=user]").value = "alice"; document.querySelector("[name=password]").value = "demo"; document.querySelector(".stack .button").click()`, nil)
		if flags == nil {
			w.becomes(".flash", "Your browser did not keep the cookie")
			w.becomes(".flash", "-insecure")
		} else {
			w.becomes(".flash", "Welcome, alice.")
			var address string
			if w.eval(`return location.search`, &address); address != "" {
				t.Errorf("the address keeps %s", address)
			}
		}
		w.close()
		shop.stop()
	}
}
