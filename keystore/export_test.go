package keystore

import (
	"context"
	"time"

	"example.com/sealed"
)

// OpenSkewed is Open on a machine whose clock is off by skew.
func OpenSkewed(ctx context.Context, store Store, wrapping []sealed.Key, policy Policy, skew time.Duration) (*Syncer, error) {
	return open(ctx, store, wrapping, policy, skew)
}
