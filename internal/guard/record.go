package guard

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/fault"
)

// Types of events.
const (
	EventRequest  = "request"  // the intent, or a refusal if Error is set
	EventResponse = "response" // the outcome
)

// Event is what the audit log is told of a call. A call has a request, and, if it
// was performed, a response of the same RequestID. A call that was refused before
// it was performed has only a request, with Kind and Error.
type Event struct {
	Type        string
	RequestID   string
	Operation   string // "" if the path led to none
	Verb        string
	Path        string
	Remote      string
	Accessor    string
	DisplayName string
	Policies    []string
	// Data is a pointer to the operation's request or response struct, nil if it
	// was not read or there is none. Its tags say what of it may be shown.
	Data     any
	Kind     fault.Kind // of Error
	Error    string     // "" if all is well
	Warnings []string
}

// Recorder is the audit log. When Record returns nil, the event is durable. It
// must not keep the event.
type Recorder interface {
	Record(*Event) error
}

// record writes an event of the call.
func (c *call) record(kind string, data any, err error) error {
	c.event = Event{
		Type: kind, RequestID: c.id, Verb: c.req.Verb.String(), Path: c.path, Remote: c.req.Remote,
		Accessor: c.op.Caller.Accessor, DisplayName: c.op.Caller.DisplayName, Policies: c.op.Caller.Policies,
		Data: data, Warnings: c.op.Warnings,
	}
	if c.match.op != nil {
		c.event.Operation = c.match.op.Name
	}
	if err != nil {
		c.event.Kind, c.event.Error = fault.KindOf(err), fault.Message(err)
	}
	return c.recorder.Record(&c.event)
}

// unknownFields is the warning that Vault's callers know.
func unknownFields(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return "Endpoint ignored these unrecognized parameters: [" + strings.Join(names, " ") + "]"
}
