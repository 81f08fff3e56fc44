package keys

import (
	"github.com/claviger/claviger/internal/op"
)

// toolOperations are those that need no mount: what transit offers under the
// same names, at sys/tools.
func (s *Service) toolOperations() []*op.Operation {
	tool := func(name, path, help string) op.Meta {
		return op.Meta{Name: "sys.tools." + name, Mount: "sys", Path: "tools/" + path, Verb: op.Write, Help: help}
	}
	return []*op.Operation{
		op.Define(tool("random", "random", "Random bytes of the HSM token."), s.random),
		op.Define(tool("random.one", "random/{source}", "Random bytes; the last part is a number of bytes or a source."), s.randomOne),
		op.Define(tool("random.both", "random/{source}/{bytes}", "Random bytes of a source."), s.randomBoth),
	}
}
