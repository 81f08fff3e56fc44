package custody

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (c *Custody) opHealth(_ context.Context, _ *op.Call, q *api.HealthQuery) (*api.Health, error) {
	if err := checkCodes(q); err != nil {
		return nil, err
	}
	s := c.Status()
	h := &api.Health{
		Initialized:                s.Initialized,
		Sealed:                     s.Sealed,
		ReplicationPerformanceMode: "disabled",
		ReplicationDRMode:          "disabled",
		ServerTimeUTC:              c.now().UTC().Unix(),
		Version:                    s.Version,
		ClusterName:                s.ClusterName,
		ClusterID:                  s.ClusterID,
	}
	switch {
	case !s.Initialized:
		h.Status = choose(q.UninitCode, http.StatusNotImplemented)
	case s.Sealed:
		h.Status = choose(q.SealedCode, http.StatusServiceUnavailable)
	default:
		h.Status = choose(q.ActiveCode, http.StatusOK)
	}
	return h, nil
}

// checkCodes refuses what is no final HTTP status (RFC 9110 section 15).
func checkCodes(q *api.HealthQuery) error {
	for _, f := range []struct {
		name string
		code int
	}{
		{"activecode", q.ActiveCode}, {"standbycode", q.StandbyCode}, {"sealedcode", q.SealedCode}, {"uninitcode", q.UninitCode},
	} {
		if f.code != 0 && (f.code < 200 || f.code > 599) {
			return fault.New(fault.Invalid, "%s is %d; a status is a number from 200 to 599", f.name, f.code)
		}
	}
	return nil
}

func choose(asked, otherwise int) int {
	if asked != 0 {
		return asked
	}
	return otherwise
}
