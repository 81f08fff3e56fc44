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
	c.heldShut = true
	c.shut()
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

// shut is called by the holder of act.
func (c *Custody) shut() {
	c.state.And(^uint32(stateUnsealed))
	c.mu.Lock()
	tok := c.tok
	c.tok = nil
	c.given.wipe()
	c.root.wipe()
	c.rekey.wipe()
	c.confirm.wipe()
	c.mu.Unlock()
	if tok == nil {
		return
	}
	c.saveUse(context.Background())
	c.stop(tok)
	c.log.Info("Sealed")
}
