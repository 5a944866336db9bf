package recipes

import (
	"html/template"
	"net/http"
)

// page is a template that shows the visitor. What is in the session may have been typed by
// the visitor: html/template escapes it.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<title>Shop</title>
{{with .Flash}}<p role=status>{{.}}</p>{{end}}
{{if .User}}<p>Hello, {{.User}}.</p>{{else}}<p><a href=/login>Log in</a></p>{{end}}
<ul>{{range .Cart}}<li>{{.}}</li>{{end}}</ul>
`))

// Page shows the session in a template. Everything is read before the first byte is written: the
// cookie goes with the headers.
func Page(m *Sessions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flash := TakeFlash(m, r)
		s, _ := m.Get(r.Context())
		s.Flash = flash
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, s)
	})
}
