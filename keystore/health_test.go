package keystore_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// Health says when sessions cannot be verified, Age how old the news are.
func TestHealthAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		policy := quick
		policy.MaxStale = 5 * time.Minute
		s, err := keystore.Open(t.Context(), &store, newWrapping(), policy)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.Sleep(time.Hour)
		if st := s.Status(); st.Health != nil || st.Age > 2*policy.Poll {
			t.Errorf("while the store works: %v, %v old", st.Health, st.Age)
		}
		store.shut.Store(true)
		time.Sleep(policy.MaxStale - 3*policy.Poll)
		if err := s.Health(); err != nil {
			t.Errorf("before MaxStale: %v", err)
		}
		time.Sleep(4 * policy.Poll)
		if st := s.Status(); !errors.Is(st.Health, sealed.ErrUnverified) || st.Age < policy.MaxStale {
			t.Errorf("after MaxStale: %v, %v old, want ErrUnverified", st.Health, st.Age)
		}
		store.shut.Store(false)
		time.Sleep(2 * policy.Poll)
		if err := s.Health(); err != nil {
			t.Errorf("when the store is back: %v", err)
		}
	})
}
