//go:build !kms

package provider

import wrapping "github.com/hashicorp/go-kms-wrapping/v2"

var clouds map[string]func() wrapping.Wrapper
