// Package gin uses sealed with gin.
package gin

import (
	"net/http"

	"github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"

	"example.com/sealed/examples/routers/shop"
)

// Sessions is the middleware. Its handlers write to gin's own writer, c.Writer, whatever
// they are called with, so it has to be one that goes through the session's.
func Sessions(m *shop.Sessions) gin.HandlerFunc {
	return func(c *gin.Context) {
		around := c.Writer
		defer func() { c.Writer = around }()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.Request, c.Writer = r, &writer{around, w}
			c.Next()
		})).ServeHTTP(around, c.Request)
	}
}

// A writer is gin's, but what sends the response goes through the session's.
type writer struct {
	gin.ResponseWriter
	session http.ResponseWriter
}

func (w *writer) Write(b []byte) (int, error)       { return w.session.Write(b) }
func (w *writer) WriteString(s string) (int, error) { return w.session.Write([]byte(s)) }
func (w *writer) Flush()                            { _ = http.NewResponseController(w.session).Flush() }
func (w *writer) Unwrap() http.ResponseWriter       { return w.session }

func (w *writer) WriteHeaderNow() {
	if !w.Written() {
		w.session.WriteHeader(w.Status())
	}
	w.ResponseWriter.WriteHeaderNow()
}

// New returns the program's handler.
func New(m *shop.Sessions) http.Handler { return Program(m, Sessions(m)) }

// Program returns the routes behind a middleware for sessions.
func Program(m *shop.Sessions, sessions gin.HandlerFunc) http.Handler {
	e := gin.New()
	e.Use(gin.Recovery(), gzip.Gzip(gzip.DefaultCompression), sessions)
	e.POST("/login", func(c *gin.Context) { answer(c, shop.Login(c.Request.Context(), m, c.Query("user"))) })
	e.POST("/add/:item", func(c *gin.Context) { answer(c, shop.Add(c.Request.Context(), m, c.Param("item"))) })
	e.POST("/logout", func(c *gin.Context) { answer(c, m.Destroy(c.Request.Context())) })
	e.GET("/cart", func(c *gin.Context) {
		text, err := shop.Cart(c.Request.Context(), m)
		if err != nil {
			answer(c, err)
			return
		}
		c.String(http.StatusOK, "%s", text)
	})
	e.POST("/fail", func(c *gin.Context) {
		if err := shop.Add(c.Request.Context(), m, "before the error"); err != nil {
			answer(c, err)
			return
		}
		c.AbortWithStatusJSON(http.StatusTeapot, gin.H{"error": "failed"})
	})
	e.GET("/events", func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		flush := func() error { c.Writer.Flush(); return nil }
		if err := shop.Events(c.Request.Context(), m, c.Writer, flush); err != nil {
			answer(c, err)
		}
	})
	return e
}

func answer(c *gin.Context, err error) {
	if err != nil {
		c.AbortWithStatusJSON(shop.Status(err), gin.H{"error": err.Error()})
		return
	}
	c.Status(http.StatusNoContent)
}
