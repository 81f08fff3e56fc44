package custody

import "context"

// Seal stops the services and logs out. It returns when that is done. Sealing a
// sealed server only forgets the shares given so far.
func (c *Custody) Seal(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	c.shut()
	return nil
}

// SealSoon makes the server sealed at once, for every new call, and stops the
// services in the background: for the operation sys/seal, whose own audit
// record has to be written before the audit log ends.
func (c *Custody) SealSoon(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	c.markSealed()
	go func() {
		defer end()
		c.shut()
	}()
	return nil
}

// Close seals, and refuses every further act.
func (c *Custody) Close() {
	c.act <- struct{}{}
	defer func() { <-c.act }()
	c.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *Custody) markSealed() {
	c.state.And(^uint32(stateUnsealed))
}

// shut is called by the holder of act.
func (c *Custody) shut() {
	c.markSealed()
	c.mu.Lock()
	tok := c.tok
	c.tok = nil
	c.given.wipe()
	c.mu.Unlock()
	if tok == nil {
		return
	}
	c.stop(tok)
	c.log.Info("Sealed")
}
