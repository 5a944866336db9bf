package recipes

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"example.com/sealed"
)

// Devices is a list of where users are logged in ("my devices"). The library keeps none:
// this one is the application's, a table in practice, by the sessions' IDs.
type Devices struct {
	mu   sync.Mutex
	seen map[sealed.ID]Device
}

// A Device is where a user is logged in.
type Device struct {
	User, Agent string
}

// LoggedIn notes the request's session, right after a login.
func (d *Devices) LoggedIn(m *Sessions, r *http.Request) error {
	info, err := m.Info(r.Context())
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[sealed.ID]Device{}
	}
	d.seen[info.ID] = Device{info.Subject, r.UserAgent()}
	return nil
}

// Observe is for Config.Observe: a session that is renewed goes on under another ID, and one
// that ends is no device any more.
func (d *Devices) Observe(_ context.Context, e sealed.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.Kind {
	case sealed.EventRenewed:
		if device, ok := d.seen[e.PreviousID]; ok {
			delete(d.seen, e.PreviousID)
			d.seen[e.ID] = device
		}
	case sealed.EventDestroyed:
		delete(d.seen, e.ID)
	}
}

// Of returns the sessions of a user.
func (d *Devices) Of(user string) []sealed.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(maps.Collect(func(yield func(sealed.ID, bool) bool) {
		for id, device := range d.seen {
			if device.User == user && !yield(id, true) {
				return
			}
		}
	})), func(a, b sealed.ID) int { return slices.Compare(a[:], b[:]) })
}

// End ends one session of the user's own: the list says whose it is, not the request.
func (d *Devices) End(ctx context.Context, m *Sessions, user string, id sealed.ID) error {
	d.mu.Lock()
	device, ok := d.seen[id]
	d.mu.Unlock()
	if !ok || device.User != user {
		return fmt.Errorf("no session %v of this user", id)
	}
	if err := m.RevokeSession(ctx, id); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, id)
	return nil
}
