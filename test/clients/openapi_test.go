package clients

import (
	"os/exec"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenAPIDocument holds the document that claviger prints against the
// OpenAPI specification's own schema.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	text, err := exec.Command(harness.Binary(t), "openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := document.BuildV3Model(); err != nil {
		t.Errorf("building the model: %v", err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if valid, problems := v.ValidateDocument(); !valid {
		for _, p := range problems {
			t.Errorf("%s: %s", p.Message, p.Reason)
			for _, s := range p.SchemaValidationErrors {
				t.Errorf("  %s at %s", s.Reason, s.Location)
			}
		}
	}
}
