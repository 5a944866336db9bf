package recipes

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// Upstream passes requests of those who are logged in on to another server, which is told
// the user by a header and never sees the session's cookie: whoever has that is the visitor.
func Upstream(m *Sessions, cookieName string, to *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			cookies := p.In.Cookies()
			p.Out.Header.Del("Cookie")
			for _, c := range cookies {
				if c.Name != cookieName && !strings.HasPrefix(c.Name, cookieName+".") { // split ones, too
					p.Out.AddCookie(c)
				}
			}
			s, _ := m.Get(p.In.Context())
			p.Out.Header.Set("X-User", s.User) // and not what the visitor has sent
		},
	}
	return RequireLogin(m, proxy)
}
