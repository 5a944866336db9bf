// Package echo5 uses sealed with echo, version 5.
package echo5

import (
	"net/http"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"example.com/sealed/examples/routers/shop"
)

// New returns the program's handler.
func New(m *shop.Sessions) http.Handler {
	e := echo.New()
	e.Use(middleware.Recover(), middleware.Gzip(), echo.WrapMiddleware(m.Handler))
	e.POST("/login", func(c *echo.Context) error {
		return answer(c, shop.Login(c.Request().Context(), m, c.QueryParam("user")))
	})
	e.POST("/add/:item", func(c *echo.Context) error {
		return answer(c, shop.Add(c.Request().Context(), m, c.Param("item")))
	})
	e.POST("/logout", func(c *echo.Context) error {
		return answer(c, m.Destroy(c.Request().Context()))
	})
	e.GET("/cart", func(c *echo.Context) error {
		text, err := shop.Cart(c.Request().Context(), m)
		if err != nil {
			return answer(c, err)
		}
		return c.String(http.StatusOK, text)
	})
	e.POST("/fail", func(c *echo.Context) error {
		if err := shop.Add(c.Request().Context(), m, "before the error"); err != nil {
			return answer(c, err)
		}
		return echo.NewHTTPError(http.StatusTeapot, "failed")
	})
	e.GET("/events", func(c *echo.Context) error {
		w := c.Response()
		w.Header().Set("Content-Type", "text/event-stream")
		if err := shop.Events(c.Request().Context(), m, w, http.NewResponseController(w).Flush); err != nil {
			return answer(c, err)
		}
		return nil
	})
	return e
}

// answer has echo's error handler write the error.
func answer(c *echo.Context, err error) error {
	if err != nil {
		return echo.NewHTTPError(shop.Status(err), err.Error())
	}
	return c.NoContent(http.StatusNoContent)
}
