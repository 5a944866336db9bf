// Package connect uses sealed with connect, for RPCs.
package connect

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/sealed/examples/routers/shop"
)

// The program's procedures. Messages are of protobuf's well-known types, so that nothing is
// to be generated.
const (
	Login  = "/shop.v1.Shop/Login"
	Add    = "/shop.v1.Shop/Add"
	Logout = "/shop.v1.Shop/Logout"
	Cart   = "/shop.v1.Shop/Cart"
	Fail   = "/shop.v1.Shop/Fail"
	Events = "/shop.v1.Shop/Events"
)

// New returns the program's handler. A procedure gets the request's context, which is all
// that the manager's methods need. A stream must change the session before its first message.
func New(m *shop.Sessions) http.Handler {
	type (
		text  = wrapperspb.StringValue
		empty = emptypb.Empty
	)
	mux := http.NewServeMux()
	mux.Handle(Login, connect.NewUnaryHandler(Login, func(ctx context.Context, r *connect.Request[text]) (*connect.Response[empty], error) {
		return answer(&empty{}, shop.Login(ctx, m, r.Msg.Value))
	}))
	mux.Handle(Add, connect.NewUnaryHandler(Add, func(ctx context.Context, r *connect.Request[text]) (*connect.Response[empty], error) {
		return answer(&empty{}, shop.Add(ctx, m, r.Msg.Value))
	}))
	mux.Handle(Logout, connect.NewUnaryHandler(Logout, func(ctx context.Context, _ *connect.Request[empty]) (*connect.Response[empty], error) {
		return answer(&empty{}, m.Destroy(ctx))
	}))
	mux.Handle(Cart, connect.NewUnaryHandler(Cart, func(ctx context.Context, _ *connect.Request[empty]) (*connect.Response[text], error) {
		cart, err := shop.Cart(ctx, m)
		return answer(wrapperspb.String(cart), err)
	}))
	mux.Handle(Fail, connect.NewUnaryHandler(Fail, func(ctx context.Context, _ *connect.Request[empty]) (*connect.Response[empty], error) {
		if err := shop.Add(ctx, m, "before the error"); err != nil {
			return answer(&empty{}, err)
		}
		return nil, connect.NewError(connect.CodeAborted, nil)
	}))
	mux.Handle(Events, connect.NewServerStreamHandler(Events, func(ctx context.Context, _ *connect.Request[empty], stream *connect.ServerStream[text]) error {
		s, err := m.Get(ctx)
		for range 2 {
			if err == nil {
				err = m.Verify(ctx)
			}
			if err == nil {
				err = stream.Send(wrapperspb.String(s.User))
			}
		}
		_, err = answer(&empty{}, err)
		return err
	}))
	return m.Handler(mux)
}

func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err == nil {
		return connect.NewResponse(msg), nil
	}
	code := connect.CodeInternal
	switch shop.Status(err) {
	case http.StatusUnauthorized:
		code = connect.CodeUnauthenticated
	case http.StatusServiceUnavailable:
		code = connect.CodeUnavailable
	}
	return nil, connect.NewError(code, err)
}
