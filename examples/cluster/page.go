package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Local().Format("2 Jan, 15:04:05") },
	"ms":    func(d time.Duration) string { return d.Round(time.Millisecond).String() },
}).Parse(pageText))

// A row is what the page shows of one instance.
type row struct {
	Name   string
	Served bool
	Keys   []sealed.KeyInfo
	List   revoke.Status
	Copy   string // what it says of the copied cookie
	Taken  bool   // whether it takes it
}

// page shows all instances, whichever of them is asked.
func (c *cluster) page(w http.ResponseWriter, r *http.Request) {
	here := r.Context().Value(http.LocalAddrContextKey)
	var view struct {
		Rows   []row
		Copied bool
	}
	copied := c.copied.Load()
	view.Copied = copied != nil
	for _, i := range c.instances {
		x := row{Name: i.name, Keys: i.keys.Status().Keys, List: i.revocations.Status()}
		if a, ok := here.(interface{ String() string }); ok {
			x.Served = a.String() == i.addr
		}
		if copied != nil {
			x.Copy, x.Taken = try(r, i.addr, *copied)
		}
		view.Rows = append(view.Rows, x)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, view); err != nil {
		http.Error(w, "This page is broken.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	b.WriteTo(w)
}

// try asks an instance what it makes of a cookie, as somebody would who has
// copied it.
func try(r *http.Request, addr, cookie string) (says string, taken bool) {
	req, err := http.NewRequestWithContext(r.Context(), "GET", "http://"+addr+"/session", nil)
	if err != nil {
		return err.Error(), false
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), false
	}
	defer res.Body.Close()
	var answer struct{ Subject, Error string }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err.Error(), false
	}
	if answer.Error != "" {
		return answer.Error, false
	}
	return "lets in " + answer.Subject, true
}

// copyCookie keeps a copy of the visitor's cookie, as a thief would.
func (c *cluster) copyCookie(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie("__Host-session"); err == nil {
		text := cookie.Name + "=" + cookie.Value
		c.copied.Store(&text)
	}
	http.Redirect(w, r, "/cluster", http.StatusSeeOther)
}
