package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// FromEnvironment returns the configuration that the environment gives. Each
// variable has three names, of which the first that is set counts:
// CLAVIGER_x, VAULT_x, BAO_x, where x is ADDR, TOKEN, CACERT, CLIENT_CERT or
// CLIENT_KEY. Without a variable the token is read from ~/.vault-token.
func FromEnvironment() (Config, error) {
	cfg := Config{
		Address:    Getenv("ADDR"),
		Token:      Getenv("TOKEN"),
		CACert:     Getenv("CACERT"),
		ClientCert: Getenv("CLIENT_CERT"),
		ClientKey:  Getenv("CLIENT_KEY"),
	}
	if cfg.Token == "" {
		token, err := readTokenFile()
		if err != nil {
			return cfg, err
		}
		cfg.Token = token
	}
	return cfg, nil
}

// Getenv returns the value of CLAVIGER_name, VAULT_name or BAO_name, the first
// that is set and not empty.
func Getenv(name string) string {
	for _, prefix := range []string{"CLAVIGER_", "VAULT_", "BAO_"} {
		if v := os.Getenv(prefix + name); v != "" {
			return v
		}
	}
	return ""
}

// TokenFile returns the path of the file in which the client token is kept
// between calls: ~/.vault-token, as Vault's clients know it.
func TokenFile() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory for .vault-token: %w", err)
	}
	return filepath.Join(home, ".vault-token"), nil
}

// readTokenFile returns "" if there is no file, or no home to have it in.
func readTokenFile() (string, error) {
	path, err := TokenFile()
	if err != nil {
		return "", nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the client token: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the client token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
