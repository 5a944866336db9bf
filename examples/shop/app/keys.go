package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// Keys is where the session keys come from: a [keystore.Syncer] is one.
type Keys interface {
	Keyring() *sealed.Keyring
	Rotate(context.Context) (keyID string, err error)
	Status() keystore.Status
}

// maxKeys bounds what visitors of the demo can pile up.
const maxKeys = 24

// A schedule is what the keys page shows.
type schedule struct {
	Keys   []scheduled
	Next   time.Time // when the pending key takes over, or zero
	Every  time.Duration
	Where  string
	Status keystore.Status
	Events []count
}

// A scheduled key is one key, and from when it is what.
type scheduled struct {
	ID        string          `json:"id"`
	State     sealed.KeyState `json:"state"`
	Created   time.Time       `json:"created,omitzero"`
	Activates time.Time       `json:"activates,omitzero"`
	Dropped   time.Time       `json:"dropped,omitzero"` // when no session can need it any more
}

func (s *shop) schedule() schedule {
	status := s.Keys.Status()
	v := schedule{Every: s.Policy.RotateEvery, Where: s.Where, Status: status, Events: s.events.list()}
	var later time.Time // when the key after this one starts to seal
	for _, k := range status.Keys {
		key := scheduled{ID: k.ID, State: k.State, Created: k.Created, Activates: k.Activates}
		if !later.IsZero() && s.Policy.Retain > 0 {
			key.Dropped = later.Add(s.Policy.Retain)
		}
		if k.State == sealed.KeyPending {
			v.Next = k.Activates
		}
		later = k.Activates
		v.Keys = append(v.Keys, key)
	}
	return v
}

func (s *shop) keysPage(w http.ResponseWriter, r *http.Request) {
	v := s.schedule()
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, v.Keys)
		return
	}
	s.render(w, r, http.StatusOK, "keys.html", "Keys", v)
}

func (s *shop) rotate(w http.ResponseWriter, r *http.Request) {
	message := "Nobody was logged out."
	switch id, err := s.rotateKeys(r.Context()); {
	case err != nil:
		s.Log.Error("rotating", "error", err)
		message = "The keys stay as they are: " + err.Error() + "."
	case s.Policy.Lead > 0:
		message = fmt.Sprintf("The key %s is there, and seals in %v, when every instance has read it. %s", id, s.Policy.Lead, message)
	default:
		message = fmt.Sprintf("The key %s seals from now on. %s", id, message)
	}
	s.change(w, r, "/keys", func(s *session) { s.Flash = message })
}

func (s *shop) rotateKeys(ctx context.Context) (string, error) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	if len(s.Keys.Status().Keys) >= maxKeys {
		return "", fmt.Errorf("there are %d already, and the oldest is dropped when no session can need it", maxKeys)
	}
	return s.Keys.Rotate(ctx)
}
