//go:build kms

package provider

import (
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/azurekeyvault/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/gcpckms/v2"
)

// clouds makes the wrappers. Their libraries are two thirds of the program's size
// without them, so they are there on demand.
var clouds = map[string]func() wrapping.Wrapper{
	"awskms":        func() wrapping.Wrapper { return awskms.NewWrapper() },
	"azurekeyvault": func() wrapping.Wrapper { return azurekeyvault.NewWrapper() },
	"gcpckms":       func() wrapping.Wrapper { return gcpckms.NewWrapper() },
}
