package custody

import (
	"context"
	"encoding/pem"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (c *Custody) opHSM(ctx context.Context, _ *op.Call, _ *api.Empty) (*api.TokenStatus, error) {
	c.mu.Lock()
	tok := c.tok
	c.mu.Unlock()
	if tok == nil {
		return nil, fault.New(fault.Sealed, "Vault is sealed")
	}
	auditKey, err := tok.AuditKey(ctx)
	if err != nil {
		return nil, deviceFault(err, "read the HSM token's audit key")
	}
	info := tok.Info()
	s := &api.TokenStatus{
		Driver:       info.Driver,
		Module:       info.Module,
		Label:        info.Label,
		Serial:       info.Serial,
		Manufacturer: info.Manufacturer,
		Model:        info.Model,
		Firmware:     info.Firmware,
		Transferable: info.Transferable,
		KeyTypes:     make(map[string]api.TokenHold, len(info.Holds)),
		Quirks:       append([]string{}, info.Quirks...),

		AuditPublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: auditKey.Public})),
	}
	for t, hold := range info.Holds {
		s.KeyTypes[t.String()] = api.TokenHold{Wrapped: hold.Wrapped, Token: hold.Object, Import: hold.Import, Note: hold.Note}
	}
	return s, nil
}
