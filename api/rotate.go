package api

// RotationConfig says when the storage key is replaced by itself.
type RotationConfig struct {
	MaxOperations int64   `json:"max_operations" doc:"records sealed under one storage key, after which it is replaced"`
	Interval      Seconds `json:"interval" doc:"age after which it is replaced; 0: its age does not matter"`
	Enabled       bool    `json:"enabled" doc:"whether it is replaced by itself at all"`
}

// WriteRotationConfig changes RotationConfig. What is absent stays as it is.
type WriteRotationConfig struct {
	MaxOperations *int64   `json:"max_operations,omitempty" doc:"1000000 to 3865470566 records"`
	Interval      *Seconds `json:"interval,omitempty" doc:"24h or more, or 0: its age does not matter"`
	Enabled       *bool    `json:"enabled,omitempty" doc:"whether it is replaced by itself at all"`
}
