package api

import (
	"encoding/json"
	"time"
)

// WrapInfo is what a caller gets instead of an answer that is wrapped: the
// token that opens it, once.
type WrapInfo struct {
	Token           string    `json:"token" audit:"-" doc:"opens the answer, once"`
	Accessor        string    `json:"accessor" audit:"plain" doc:"names the wrapping token in the audit log"`
	TTL             Seconds   `json:"ttl" doc:"how long the answer is kept"`
	CreationTime    time.Time `json:"creation_time" doc:"when it was wrapped"`
	CreationPath    string    `json:"creation_path" audit:"plain" doc:"path of the call whose answer it is"`
	WrappedAccessor string    `json:"wrapped_accessor,omitempty" audit:"plain" doc:"accessor of the client token inside, if there is one"`
}

// WrappingToken names a wrapped answer by its wrapping token.
type WrappingToken struct {
	Token string `json:"token,omitempty" audit:"-" doc:"the wrapping token; default is the client token of the call"`
}

// WrapData is any JSON object, to be wrapped: the whole body of the call.
type WrapData struct {
	Data json.RawMessage `json:"-" audit:"-"`
}

// TakeBody takes the whole body, a JSON object.
func (w *WrapData) TakeBody(body json.RawMessage) { w.Data = body }

// MarshalJSON returns the object; {} if there is none.
func (w *WrapData) MarshalJSON() ([]byte, error) {
	if len(w.Data) == 0 {
		return []byte("{}"), nil
	}
	return w.Data, nil
}

// WrappingInfo describes a wrapped answer without opening it.
type WrappingInfo struct {
	CreationPath string    `json:"creation_path" audit:"plain" doc:"path of the call whose answer it is"`
	CreationTime time.Time `json:"creation_time" doc:"when it was wrapped"`
	CreationTTL  Seconds   `json:"creation_ttl" doc:"how long it is kept from then on"`
}

// Unwrapped is the answer that was wrapped. In the envelope its parts stand
// where they would have stood.
type Unwrapped struct {
	Data json.RawMessage `json:"data,omitempty" audit:"-" doc:"the answer's data"`
	Auth *Auth           `json:"auth,omitempty" audit:"-" doc:"the client token inside, if that was the answer"`
}
