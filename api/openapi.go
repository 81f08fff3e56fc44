package api

import "encoding/json"

// HelpPath asks for an explanation of a path.
type HelpPath struct {
	Path string `json:"-" path:"path" audit:"plain" doc:"the path to explain, as it would be called"`
}

// PathHelp explains the operations of a path, or of a whole mount.
type PathHelp struct {
	Help    string          `json:"help" audit:"-" doc:"the text of the API reference, in Markdown"`
	OpenAPI json.RawMessage `json:"openapi" audit:"-" doc:"the same as an OpenAPI document"`
}
