package server

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// makePool makes a pool with the one secret 00 01 02 … and returns its directory.
func makePool(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var secret bytes.Buffer
	for i := range 32 {
		secret.WriteByte(byte(i))
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), secret.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
