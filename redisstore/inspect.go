package redisstore

import (
	"context"
	"errors"
	"strings"
)

// Inspect implements [revoke.Inspector]. It needs the command INFO; without it, it says
// nothing.
func (s *Store) Inspect(ctx context.Context) error {
	info, err := within(ctx, s, func(ctx context.Context) (string, error) {
		node, err := s.master(ctx, s.stream)
		if err != nil {
			return "", err
		}
		return node.Info(ctx).Result()
	})
	if err != nil {
		return nil
	}
	settings := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		settings[name] = value
	}
	var errs []error
	if policy := settings["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		errs = append(errs, errors.New("redisstore: the server's maxmemory-policy is "+policy+": it may drop the log and the keys; set noeviction"))
	}
	if settings["aof_enabled"] == "0" {
		errs = append(errs, errors.New("redisstore: the server's appendonly is no: what came since its last snapshot is lost when it restarts"))
	}
	return errors.Join(errs...)
}
