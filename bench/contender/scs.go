package contender

import (
	"context"
	"net/http"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/fxamacker/cbor/v2"
	"github.com/jackc/pgx/v5/pgxpool"
)

// scsSessions is github.com/alexedwards/scs. It keeps the session under one key, as
// one value of the application's type.
type scsSessions struct{ m *scs.SessionManager }

const scsKey = "session"

func newSCS() *scs.SessionManager {
	m := scs.New() // with its store in memory
	m.Cookie.Secure = true
	m.Cookie.Persist = false // as all contenders: the cookie ends with the browser
	m.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
	return m
}

func openSCSMemory(context.Context, Environment) (Sessions, func(), error) {
	return &scsSessions{newSCS()}, func() {}, nil
}

// openSCSMemoryCBOR has scs encode as sealed does, where gob is its default: what is
// left of the difference is not the encoding's.
func openSCSMemoryCBOR(context.Context, Environment) (Sessions, func(), error) {
	m := newSCS()
	m.Codec = cborCodec{}
	return &scsSessions{m}, func() {}, nil
}

// cborCodec is an scs.Codec for the one value that scsSessions keeps.
type cborCodec struct{}

// stored is what it encodes.
type stored struct {
	_        struct{} `cbor:",toarray"`
	Deadline int64    // Unix time in nanoseconds
	Session  *Session
}

func (cborCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	x := stored{Deadline: deadline.UnixNano()}
	if s, ok := values[scsKey].(Session); ok {
		x.Session = &s
	}
	return cbor.Marshal(x)
}

func (cborCodec) Decode(b []byte) (time.Time, map[string]any, error) {
	var x stored
	if err := cbor.Unmarshal(b, &x); err != nil {
		return time.Time{}, nil, err
	}
	values := map[string]any{}
	if x.Session != nil {
		values[scsKey] = *x.Session
	}
	return time.Unix(0, x.Deadline), values, nil
}

func openSCSRedis(_ context.Context, e Environment) (Sessions, func(), error) {
	client := newRedis(e)
	m := newSCS()
	m.Store = goredisstore.New(client)
	return &scsSessions{m}, func() { client.Close() }, nil
}

func openSCSPostgres(ctx context.Context, e Environment) (Sessions, func(), error) {
	config, err := pgxpool.ParseConfig(e.Postgres)
	if err != nil {
		return nil, nil, err
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	if err := MakeTable(ctx, pool); err != nil {
		pool.Close()
		return nil, nil, err
	}
	m := newSCS()
	m.Store = pgxstore.NewWithCleanupInterval(pool, 0) // whose StopCleanup races with its start
	return &scsSessions{m}, pool.Close, nil
}

// MakeTable makes the table of scs as its documentation has it, unless it is there.
func MakeTable(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL);
		CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry)`)
	return err
}

func (x *scsSessions) Wrap(h http.Handler) http.Handler { return x.m.LoadAndSave(h) }

func (x *scsSessions) Get(r *http.Request) (Session, error) {
	s, _ := x.m.Get(r.Context(), scsKey).(Session)
	return s, nil
}

func (x *scsSessions) Change(_ http.ResponseWriter, r *http.Request, change func(*Session)) error {
	s, _ := x.m.Get(r.Context(), scsKey).(Session) // decoded for this request: nobody else has it
	change(&s)
	x.m.Put(r.Context(), scsKey, s)
	return nil
}

func (x *scsSessions) Login(_ http.ResponseWriter, r *http.Request, s Session) error {
	if err := x.m.RenewToken(r.Context()); err != nil {
		return err
	}
	x.m.Put(r.Context(), scsKey, s)
	return nil
}

func (x *scsSessions) Logout(_ http.ResponseWriter, r *http.Request) error {
	return x.m.Destroy(r.Context())
}
