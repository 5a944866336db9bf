package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// browsers are real ones that speak WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/).
var browsers = map[string]func(t *testing.T, o options) *browser{"Chromium": startChromium, "Firefox": startFirefox}

// options are what a browser is started with.
type options struct {
	profile string   // the folder; default a new one
	private bool     // all windows are private ones
	flags   []string // of Chromium
}

// inEachBrowser runs a test in Chromium and in Firefox.
func inEachBrowser(t *testing.T, test func(t *testing.T, name string)) {
	for name := range browsers {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

func startChromium(t *testing.T, o options) *browser {
	t.Helper()
	binary := program(t, "CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	port, driver := start(t, `on port (\d+)\.`, nil, program(t, "CHROMEDRIVER", "chromedriver"), "--port=0")
	if o.profile == "" {
		o.profile = profile(t)
	}
	args := append([]string{
		"--headless=new", "--user-data-dir=" + o.profile, "--disable-quic", "--disable-component-update", "--disable-background-networking",
		"--no-first-run", "--disable-dev-shm-usage",
	}, o.flags...)
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // the sandbox refuses root
	}
	capabilities := map[string]any{"webSocketUrl": true, "goog:chromeOptions": map[string]any{"binary": binary, "args": args}}
	var session struct {
		SessionID    string
		Capabilities struct{ WebSocketURL string }
	}
	sessions := "http://127.0.0.1:" + port + "/session"
	webDriver(t, "POST", sessions, map[string]any{"capabilities": map[string]any{"alwaysMatch": capabilities}}, &session)
	b := connect(t, session.Capabilities.WebSocketURL)
	if o.private {
		var created struct{ UserContext string } // what Chromium shows in private windows
		b.call("browser.createUserContext", map[string]any{}, &created)
		b.userContext = created.UserContext
	}
	b.stop = func() {
		webDriver(t, "DELETE", sessions+"/"+session.SessionID, nil, nil)
		driver.stop()
	}
	return b
}

// webDriver calls a driver that speaks the classic protocol (https://www.w3.org/TR/webdriver2/).
func webDriver(t *testing.T, method, url string, body, value any) {
	t.Helper()
	if body == nil {
		body = struct{}{}
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer := struct{ Value any }{value}
	if text, err = io.ReadAll(res.Body); err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v\n%.500s", method, url, res.Status, err, text)
	}
}

func startFirefox(t *testing.T, o options) *browser {
	t.Helper()
	if o.profile == "" {
		o.profile = profile(t)
	}
	preferences := fmt.Sprintf(`
user_pref("browser.privatebrowsing.autostart", %v);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.region.update.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:1/");
user_pref("extensions.systemAddon.update.enabled", false);
user_pref("network.prefetch-next", true);
`, o.private)
	if err := os.WriteFile(filepath.Join(o.profile, "user.js"), []byte(preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	address, firefox := start(t, `BiDi listening on (ws://\S+)`, nil, program(t, "FIREFOX", "firefox-esr", "firefox"),
		"--headless", "--no-remote", "--profile", o.profile, "--remote-debugging-port", "0")
	b := connect(t, address+"/session")
	b.call("session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}}, nil)
	b.stop = func() {
		b.call("browser.close", map[string]any{}, nil)
		select {
		case <-firefox.ended: // it has written its cookies
		case <-time.After(20 * time.Second):
			t.Error("Firefox does not end")
		}
		firefox.stop()
	}
	return b
}

// A browser is a running one, to which commands are sent one after another.
type browser struct {
	t       *testing.T
	conn    *websocket.Conn
	last    int
	answers chan message
	loads   chan string // browsing contexts that have loaded a page
	stop    func()

	userContext string // of new tabs
	subscribed  bool
}

type message struct {
	Type, Error, Message, Method string
	ID                           int
	Result, Params               json.RawMessage
}

func connect(t *testing.T, url string) *browser {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // each command has a limit of its own
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20) // screenshots
	b := &browser{t: t, conn: conn, answers: make(chan message), loads: make(chan string, 1000)}
	t.Cleanup(func() { conn.CloseNow() })
	go func() {
		defer close(b.answers)
		for {
			var m message
			_, text, err := conn.Read(ctx)
			if err != nil || json.Unmarshal(text, &m) != nil {
				return
			}
			if m.Type != "event" {
				b.answers <- m
				continue
			}
			var event struct{ Context string }
			if json.Unmarshal(m.Params, &event) == nil && m.Method == "browsingContext.load" {
				b.loads <- event.Context
			}
		}
	}()
	return b
}

func (b *browser) try(method string, params, result any) error {
	b.t.Helper()
	b.last++
	text, err := json.Marshal(map[string]any{"id": b.last, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), time.Minute)
	defer cancel()
	if err := b.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer", method)
	case m, ok := <-b.answers:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser is gone", method)
		case m.ID != b.last || m.Type != "success":
			return fmt.Errorf("%s: %s: %s", method, m.Error, m.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(m.Result, result)
	}
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// close ends the browser as a person does.
func (b *browser) close() { b.t.Helper(); b.stop() }

// A page is a tab of a browser.
type page struct {
	*browser
	context string
}

// tab opens a new one.
func (b *browser) tab() page {
	b.t.Helper()
	if !b.subscribed {
		b.call("session.subscribe", map[string]any{"events": []string{"browsingContext.load"}}, nil)
		b.subscribed = true
	}
	create := map[string]any{"type": "tab"}
	if b.userContext != "" {
		create["userContext"] = b.userContext
	}
	var created struct{ Context string }
	b.call("browsingContext.create", create, &created)
	p := page{b, created.Context}
	p.size(1200, 900)
	return p
}

// frame is the first frame within the page.
func (p page) frame() page {
	p.t.Helper()
	var tree struct {
		Contexts []struct{ Children []struct{ Context string } }
	}
	p.call("browsingContext.getTree", map[string]any{"root": p.context}, &tree)
	if len(tree.Contexts) != 1 || len(tree.Contexts[0].Children) == 0 {
		p.t.Fatal("the page has no frame")
	}
	return page{p.browser, tree.Contexts[0].Children[0].Context}
}

func (p page) size(width, height int) {
	p.t.Helper()
	p.call("browsingContext.setViewport", map[string]any{"context": p.context, "viewport": map[string]int{"width": width, "height": height}}, nil)
}

func (p page) visit(url string) {
	p.t.Helper()
	p.call("browsingContext.navigate", map[string]any{"context": p.context, "url": url, "wait": "complete"}, nil)
}

func (p page) reload() {
	p.t.Helper()
	p.call("browsingContext.reload", map[string]any{"context": p.context, "wait": "complete"}, nil)
}

// back is the back button.
func (p page) back() {
	p.t.Helper()
	p.call("browsingContext.traverseHistory", map[string]any{"context": p.context, "delta": -1}, nil)
}

// eval runs a script in the page, waits for its promise, and decodes the result.
func (p page) eval(script string, result any) {
	p.t.Helper()
	if err := p.tryEval(script, result); err != nil {
		p.t.Fatal(err)
	}
}

func (p page) tryEval(script string, result any) error {
	p.t.Helper()
	var answer struct {
		Result           struct{ Value string }
		ExceptionDetails *struct{ Text string }
	}
	err := p.try("script.evaluate", map[string]any{
		"expression": "(async () => JSON.stringify((await (" + script + ")) ?? null))()", "awaitPromise": true,
		"target": map[string]any{"context": p.context}, "userActivation": true,
	}, &answer)
	switch {
	case err != nil:
		return err
	case answer.ExceptionDetails != nil:
		return fmt.Errorf("%s: %s", script, answer.ExceptionDetails.Text)
	case result == nil:
		return nil
	}
	return json.Unmarshal([]byte(answer.Result.Value), result)
}

// click clicks on what loads another page, and waits for that.
func (p page) click(selector string) {
	p.t.Helper()
	for len(p.loads) > 0 {
		<-p.loads
	}
	p.press(selector)
	limit := time.After(30 * time.Second)
	for {
		select {
		case context := <-p.loads:
			if context == p.context {
				return
			}
		case <-limit:
			p.t.Fatalf("clicking %s loads nothing", selector)
		}
	}
}

// press clicks on what a person can see.
func (p page) press(selector string) {
	p.t.Helper()
	p.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e.checkVisibility()) throw new Error("hidden"); e.click() })()`, selector), nil)
}

func (p page) fill(selector, text string) {
	p.t.Helper()
	p.eval(fmt.Sprintf(`document.querySelector(%q).value = %q`, selector, text), nil)
}

func (p page) text(selector string) string {
	p.t.Helper()
	var s string
	p.eval(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? "nothing"`, selector), &s)
	return s
}

func (p page) want(selector, want string) {
	p.t.Helper()
	if got := p.text(selector); !strings.Contains(got, want) {
		p.t.Errorf("%s shows %q, want %q", selector, got, want)
	}
}

// becomes waits until a page shows a text.
func (p page) becomes(selector, want string) {
	p.t.Helper()
	var got string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if p.tryEval(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? "nothing"`, selector), &got) == nil && strings.Contains(got, want) {
			return
		}
	}
	p.t.Errorf("%s shows %q, want %q", selector, got, want)
}

// A cookie as the browser keeps it. Expiry is in Unix seconds, or 0.
type cookie struct {
	Name, SameSite   string
	Value            struct{ Value string }
	Secure, HTTPOnly bool
	Expiry           int64
}

// cookies are those that the page's requests carry.
func (p page) cookies() []cookie {
	p.t.Helper()
	var answer struct{ Cookies []cookie }
	p.call("storage.getCookies", map[string]any{"partition": map[string]string{"type": "context", "context": p.context}}, &answer)
	return answer.Cookies
}

// shots takes screenshots into the folder SHOTS, if that is set.
func (p page) shots(name string) {
	p.t.Helper()
	dir := os.Getenv("SHOTS")
	if dir == "" {
		return
	}
	for suffix, size := range map[string][2]int{"": {1200, 900}, "-narrow": {390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			var shot struct{ Data string }
			p.size(size[0], size[1])
			p.eval(fmt.Sprintf(`document.documentElement.style.colorScheme = %q`, scheme), nil)
			p.call("browsingContext.captureScreenshot", map[string]any{"context": p.context}, &shot)
			png, err := base64.StdEncoding.DecodeString(shot.Data)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name+suffix+"-"+scheme+".png"), png, 0o644)
			}
			if err != nil {
				p.t.Fatal(err)
			}
		}
	}
	p.eval(`document.documentElement.style.colorScheme = ""`, nil)
	p.size(1200, 900)
}
