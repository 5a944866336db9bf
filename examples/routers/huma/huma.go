// Package huma uses sealed with huma, here on net/http's router.
package huma

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"example.com/sealed/examples/routers/shop"
)

type text struct{ Body []byte }

// New returns the program's handler. An operation gets the request's context, which is
// all that the manager's methods need.
func New(m *shop.Sessions) http.Handler {
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("Shop", "1.0.0"))
	huma.Post(api, "/login", func(ctx context.Context, in *struct {
		User string `query:"user"`
	}) (*struct{}, error) {
		return answer(shop.Login(ctx, m, in.User))
	})
	huma.Post(api, "/add/{item}", func(ctx context.Context, in *struct {
		Item string `path:"item"`
	}) (*struct{}, error) {
		return answer(shop.Add(ctx, m, in.Item))
	})
	huma.Post(api, "/logout", func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return answer(m.Destroy(ctx))
	})
	huma.Get(api, "/cart", func(ctx context.Context, _ *struct{}) (*text, error) {
		cart, err := shop.Cart(ctx, m)
		if err != nil {
			return nil, huma.NewError(shop.Status(err), err.Error())
		}
		return &text{[]byte(cart)}, nil
	})
	huma.Post(api, "/fail", func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		if err := shop.Add(ctx, m, "before the error"); err != nil {
			return answer(err)
		}
		return nil, huma.NewError(http.StatusTeapot, "failed")
	})
	huma.Get(api, "/events", func(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
		if _, err := m.Get(ctx); err != nil {
			return nil, huma.NewError(shop.Status(err), err.Error())
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", "text/event-stream")
			_, w := humago.Unwrap(c)
			_ = shop.Events(ctx, m, w, http.NewResponseController(w).Flush)
		}}, nil
	})
	return m.Handler(mux)
}

func answer(err error) (*struct{}, error) {
	if err != nil {
		return nil, huma.NewError(shop.Status(err), err.Error())
	}
	return nil, nil
}
