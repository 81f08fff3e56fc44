package config

// HMACPool bounds where the pools of mounts of type hmacpool may lie.
type HMACPool struct {
	// Dirs are directories in and below which clients with the right to write a
	// mount's config may name a pool.
	Dirs []string `toml:"dirs"`
}

func (c *Config) completeHMACPool() {
	for i := range c.HMACPool.Dirs {
		c.absolute(&c.HMACPool.Dirs[i])
	}
}
