// Package app is the shop, to be run by the command beside it: one handler that
// keeps all it knows of a visitor in the visitor's cookie.
package app

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

//go:embed web
var web embed.FS

// A Config is what a shop is made of. Log and Keys are required.
type Config struct {
	Keys        Keys
	Policy      keystore.Policy       // the keys', to show
	Where       string                // the keys are, in words
	Revocations sealed.RevocationList // default one for this process alone
	Instance    string                // the name of this one of many, or empty
	Insecure    bool                  // a cookie without Secure, named "session"
	Bind        bool                  // sessions to a key of the visitor's device; over TLS only
	Log         *slog.Logger

	// Observe is told of each event, beside the log. Default nobody.
	Observe func(context.Context, sealed.Event)
}

type shop struct {
	Config
	sessions *sealed.Manager[session]
	rotating sync.Mutex // held from counting the keys to adding one
	events   *counter
	pages    *template.Template
	cookie   string // the cookie's name
	site     http.Handler
}

// New returns the shop.
func New(config Config) (http.Handler, error) {
	s := &shop{Config: config, events: &counter{log: config.Log, counts: map[string]int{}}, cookie: "__Host-session"}
	if s.Insecure {
		s.cookie = "session"
	}
	if s.Revocations == nil {
		s.Revocations = revoke.NewList()
	}
	var err error
	observe := s.events.observe
	if next := config.Observe; next != nil {
		observe = func(ctx context.Context, e sealed.Event) { s.events.observe(ctx, e); next(ctx, e) }
	}
	if s.sessions, err = newSessions(config.Keys.Keyring(), s.Revocations, s.Insecure, s.Bind, observe); err != nil {
		return nil, err
	}
	s.pages, err = template.New("").Funcs(template.FuncMap{
		"money":   func(cents int) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) },
		"date":    func(t time.Time) string { return t.Local().Format("2 Jan 2006, 15:04:05") },
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"in":      func(t time.Time) string { return left(t, time.Now()) },
		"seconds": func(d time.Duration) string { return fmt.Sprintf("%d s", int(d.Seconds())) },
		"days":    func(d time.Duration) string { return fmt.Sprintf("%d days", int(d.Hours()/24)) },
	}).ParseFS(web, "web/*.html")
	if err != nil {
		return nil, err
	}
	s.site = s.handler()
	return s.site, nil
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("POST /logout-everywhere", s.logoutEverywhere)
	mux.HandleFunc("POST /logout-elsewhere", s.logoutElsewhere)
	mux.HandleFunc("POST /cart", s.addToCart)
	mux.HandleFunc("POST /cart/remove", s.removeFromCart)
	mux.HandleFunc("POST /theme", s.setTheme)
	mux.HandleFunc("GET /session", s.anatomy)
	mux.HandleFunc("GET /theft", s.theftPage)
	mux.HandleFunc("POST /theft", s.theftPage)
	mux.HandleFunc("GET /keys", s.keysPage)
	mux.HandleFunc("POST /keys/rotate", s.rotate)
	mux.Handle("GET /web/style.css", http.FileServerFS(web))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
	// Inside: a browser may refresh the proof of its device for a link of another site.
	protected := s.sessions.Handler(http.NewCrossOriginProtection().Handler(mux))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		protected.ServeHTTP(w, r)
	})
}

// view is what every page shows.
type view struct {
	Title    string
	Path     string
	Instance string
	Session  session
	Reason   string // why there is no session, if a cookie was refused
	Dropped  bool   // the browser has not kept the cookie
	Flash    string
	Page     any
}

// render shows a page with the visitor's session, whose flash message it takes, unless
// the browser only fetches the page in case that somebody looks at it. The page is not
// to be stored: after logout the back button would show it.
func (s *shop) render(w http.ResponseWriter, r *http.Request, status int, name, title string, page any) {
	w.Header().Set("Cache-Control", "no-store")
	_, err := r.Cookie(s.cookie)
	first := r.Method == http.MethodGet && r.URL.RawQuery == firstCookie
	if first && err == nil {
		http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
		return
	}
	v := view{Dropped: first, Title: title, Path: r.URL.Path, Instance: s.Instance, Page: page}
	if v.Session, err = s.sessions.Get(r.Context()); errors.Is(err, sealed.ErrUnverified) {
		http.Error(w, "The shop cannot check who you are. Please try again in a moment.", http.StatusServiceUnavailable)
		return
	} else if err != nil && !errors.Is(err, sealed.ErrNoSession) {
		v.Reason = strings.TrimPrefix(err.Error(), "sealed: ")
	}
	if v.Flash = v.Session.Flash; v.Flash != "" && !sealed.IsPrefetch(r) {
		if err := s.sessions.Update(r.Context(), func(s *session) { s.Flash = "" }); err != nil {
			s.Log.Error("taking the flash message", "error", err)
		}
	}
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, name, v); err != nil {
		s.Log.Error("rendering", "page", name, "error", err)
		http.Error(w, "This page is broken.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	b.WriteTo(w)
}

func (s *shop) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	title, ok := map[int]string{
		http.StatusBadRequest:            "Not quite",
		http.StatusForbidden:             "Not allowed",
		http.StatusUnauthorized:          "Is it you?",
		http.StatusNotFound:              "Nothing here",
		http.StatusRequestEntityTooLarge: "Too much for one cookie",
		http.StatusServiceUnavailable:    "Please try again",
	}[status]
	if !ok {
		title = http.StatusText(status)
	}
	s.render(w, r, status, "message.html", title, message)
}

// change changes the session and sends the visitor back. What the session cannot
// hold is said, and the session is as it was.
func (s *shop) change(w http.ResponseWriter, r *http.Request, to string, change func(*session)) {
	err := s.sessions.Update(r.Context(), change)
	switch {
	case errors.Is(err, sealed.ErrTooLarge):
		sizes := err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
		s.fail(w, r, http.StatusRequestEntityTooLarge, "That does not fit into your session, which lives in a cookie ("+sizes+"). Your cart is as it was.")
	case errors.Is(err, sealed.ErrUnverified):
		s.fail(w, r, http.StatusServiceUnavailable, "")
	case errors.Is(err, sealed.ErrUnproven):
		s.fail(w, r, http.StatusUnauthorized, "Your browser could not prove that this is your device. Try again in a moment, or log in again.")
	case err != nil:
		s.Log.Error("changing the session", "error", err)
		s.fail(w, r, http.StatusInternalServerError, "That did not work. Please try again.")
	default:
		if _, err := r.Cookie(s.cookie); err != nil {
			to += "?" + firstCookie
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// firstCookie, as a query, says that the visitor comes from the response that set the
// first cookie. Without the cookie there, the browser has not kept it.
const firstCookie = "first-cookie"

// back is the page that a form was sent from, if it is one of ours.
func back(r *http.Request) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host || !strings.HasPrefix(from.Path, "/") || strings.HasPrefix(from.Path, "//") {
		return "/"
	}
	switch from.Path {
	case "/", "/session", "/theft", "/keys", "/login":
		return from.Path
	}
	return "/"
}

type cartLine struct {
	product
	Qty int
}

func (s *shop) home(w http.ResponseWriter, r *http.Request) {
	current, _ := s.sessions.Get(r.Context())
	var page struct {
		Products []product
		Cart     []cartLine
		Count    int
		Total    int
	}
	page.Products = catalogue
	for _, it := range current.Cart {
		if p, ok := lookUp(it.SKU); ok {
			page.Cart = append(page.Cart, cartLine{p, it.Qty})
			page.Count += it.Qty
			page.Total += it.Qty * p.Price
		}
	}
	s.render(w, r, http.StatusOK, "home.html", "Shop", page)
}

func (s *shop) addToCart(w http.ResponseWriter, r *http.Request) {
	p, ok := lookUp(r.PostFormValue("sku"))
	if !ok {
		s.fail(w, r, http.StatusBadRequest, "The shop does not sell that.")
		return
	}
	qty, err := strconv.Atoi(r.PostFormValue("qty"))
	if err != nil || qty < 1 || qty > maxQty {
		s.fail(w, r, http.StatusBadRequest, fmt.Sprintf("Quantities go from 1 to %d.", maxQty))
		return
	}
	s.change(w, r, "/", func(s *session) {
		before := s.Cart
		s.Cart = append([]item(nil), before...)
		s.Flash = p.Name + " is in your cart."
		if err := s.add(items(p.SKU, qty)); err != nil {
			s.Cart, s.Flash = before, "You can have "+err.Error()+"."
		}
	})
}

func (s *shop) removeFromCart(w http.ResponseWriter, r *http.Request) {
	sku := r.PostFormValue("sku")
	s.change(w, r, "/", func(s *session) { s.remove(sku) })
}

func (s *shop) setTheme(w http.ResponseWriter, r *http.Request) {
	theme := r.PostFormValue("theme")
	switch theme {
	case "light", "dark":
	case "auto":
		theme = ""
	default:
		s.fail(w, r, http.StatusBadRequest, "The themes are light, dark and auto.")
		return
	}
	s.change(w, r, back(r), func(s *session) { s.Theme = theme })
}

// loginForm is what the login page keeps of a failed try.
type loginForm struct {
	User  string
	Error string
}

func (s *shop) loginPage(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "login.html", "Log in", loginForm{})
}

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	user, remember := r.PostFormValue("user"), r.PostFormValue("remember")
	if (user != "alice" && user != "bob") || r.PostFormValue("password") != "demo" {
		s.render(w, r, http.StatusUnauthorized, "login.html", "Log in", loginForm{user, "Wrong name or password. Try alice or bob, with demo."})
		return
	}
	change := func(s *session) {
		s.User, s.Remember = user, remember != "" && remember != "0" && remember != "false"
		s.Flash = "Welcome, " + user + "."
	}
	if current, err := s.sessions.Get(r.Context()); err == nil && current.User == user {
		s.loginAgain(w, r, change)
		return
	}
	s.change(w, r, "/", change)
}

// loginAgain logs the same user in again. The subject does not show it, so the session
// is renewed, after the change: a longer life begins with a renewal.
func (s *shop) loginAgain(w http.ResponseWriter, r *http.Request, change func(*session)) {
	err := s.sessions.Update(r.Context(), change)
	if err == nil {
		err = s.sessions.Renew(r.Context())
	}
	if err != nil {
		s.Log.Error("renewing", "error", err)
		s.fail(w, r, http.StatusServiceUnavailable, "That did not work. Please try again.")
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	current, _ := s.sessions.Get(r.Context())
	// What the browser has kept, or fetched ahead, shows who was logged in.
	w.Header().Set("Clear-Site-Data", `"cache", "prefetchCache", "prerenderCache"`)
	if err := s.sessions.Destroy(r.Context()); err != nil {
		s.Log.Error("logout", "error", err)
		s.fail(w, r, http.StatusServiceUnavailable, "You are logged out in this browser, but a copy of your cookie may still work.")
		return
	}
	// A new session, of nobody: it keeps no more than the theme.
	s.change(w, r, "/", func(s *session) { s.Theme, s.Flash = current.Theme, "You are logged out." })
}

func (s *shop) logoutEverywhere(w http.ResponseWriter, r *http.Request) {
	info, err := s.sessions.Info(r.Context())
	if err != nil || info.Subject == "" {
		s.fail(w, r, http.StatusForbidden, "Log in first.")
		return
	}
	if err := s.sessions.RevokeSubject(r.Context(), info.Subject); err != nil {
		s.Log.Error("logout everywhere", "error", err)
		s.fail(w, r, http.StatusServiceUnavailable, "That did not work. Please try again.")
		return
	}
	s.logout(w, r)
}

// logoutElsewhere ends all sessions of the visitor but this one, which goes on
// under a new ID.
func (s *shop) logoutElsewhere(w http.ResponseWriter, r *http.Request) {
	info, err := s.sessions.Info(r.Context())
	if err != nil || info.Subject == "" {
		s.fail(w, r, http.StatusForbidden, "Log in first.")
		return
	}
	if err = s.sessions.RevokeSubject(r.Context(), info.Subject); err == nil {
		err = s.sessions.Renew(r.Context())
	}
	if err != nil {
		s.Log.Error("logout elsewhere", "error", err)
		s.fail(w, r, http.StatusServiceUnavailable, "That did not work. Please try again.")
		return
	}
	s.change(w, r, "/session", func(s *session) { s.Flash = "All your other sessions are logged out." })
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(v)
}
