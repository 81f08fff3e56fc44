package client

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
)
