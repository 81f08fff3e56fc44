package api

// PoolHMAC asks for codes under the secrets of a pool, which the messages choose.
type PoolHMAC struct {
	Input      []byte     `json:"input,omitzero" doc:"message, one byte or more"`
	BatchInput []PoolItem `json:"batch_input,omitempty" doc:"items, at most 10,000; input outside is ignored then"`
}

// PoolItem is an item of a batch of PoolHMAC.
type PoolItem struct {
	Input     []byte `json:"input,omitzero"`
	Reference string `json:"reference,omitempty" audit:"plain"`
}

// PoolCodes is the answer to PoolHMAC.
type PoolCodes struct {
	HMAC         []byte     `json:"hmac,omitempty" audit:"-" doc:"HMAC-SHA-256, 32 bytes"`
	BatchResults []PoolCode `json:"batch_results,omitempty"`
}

// PoolCode is an item of PoolCodes.
type PoolCode struct {
	HMAC      []byte `json:"hmac,omitempty" audit:"-"`
	Error     string `json:"error,omitempty" audit:"plain"`
	Reference string `json:"reference" audit:"plain"`
}

// PoolConfig says where the pool of a mount is.
type PoolConfig struct {
	Directory string `json:"directory" audit:"plain" doc:"absolute path on the server, in or below one that its configuration allows"`
	Mode      string `json:"mode" audit:"plain" doc:"MODE0, MODE16 or MODE32: 1, 2^16 or 2^32 secrets"`
	Index     string `json:"index" audit:"plain" doc:"current (default), or pre-2021-09-13: all messages share one secret, as older builds of cryptoserver did"`
}

// PoolStatus is the state of the pool of a mount.
type PoolStatus struct {
	PoolConfig
	// Fixed pools are set in the server's configuration file.
	Fixed   bool   `json:"fixed" doc:"set by the server's configuration file, not by config"`
	Sealed  bool   `json:"sealed" doc:"the records are encrypted under a key of the HSM token"`
	Key     string `json:"key,omitempty" audit:"plain" doc:"of a sealed pool: the key that opens it"`
	Secrets int64  `json:"secrets" doc:"number of secrets"`
	Usable  bool   `json:"usable" doc:"the files that are looked at before use are there and have the right size"`
	Problem string `json:"problem,omitempty" audit:"plain" doc:"why the pool is not usable"`
}
