package revoke_test

import (
	"testing"

	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

func TestMemory(t *testing.T) {
	var last *testing.T
	var log *revoke.Memory
	revoketest.Run(t, func(t *testing.T) revoke.Log {
		if t != last {
			log, last = new(revoke.Memory), t
		}
		return log
	}, nil)
}

func TestLossy(t *testing.T) {
	var last *testing.T
	var log *revoketest.Lossy
	revoketest.Run(t, func(t *testing.T) revoke.Log {
		if t != last {
			log, last = new(revoketest.Lossy), t
		}
		return log
	}, map[string]func(*testing.T, revoke.Log){
		"emptied": func(_ *testing.T, l revoke.Log) { l.(*revoketest.Lossy).Lose(0) },
		"cut off": func(_ *testing.T, l revoke.Log) { l.(*revoketest.Lossy).Lose(20) },
		"twice":   func(_ *testing.T, l revoke.Log) { l.(*revoketest.Lossy).Lose(25); l.(*revoketest.Lossy).Lose(20) },
	})
}
