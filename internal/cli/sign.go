package cli

import (
	"context"
	"crypto"
	_ "crypto/sha1"   // for digests
	_ "crypto/sha256" // for digests
	_ "crypto/sha3"   // for digests
	_ "crypto/sha512" // for digests
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// hashes are the hash algorithms by their names in the API.
var hashes = map[string]crypto.Hash{
	"sha1": crypto.SHA1, "sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
}

// signing is the flags that sign and verify share.
type signing struct {
	in         input
	hash       string
	prehashed  bool
	local      bool
	signature  string
	marshaling string
	salt       string
	context    string
}

func (s *signing) flags(cmd *cobra.Command) {
	s.in.flags(cmd, "message")
	f := cmd.Flags()
	f.StringVar(&s.hash, "hash", "", "hash algorithm: "+strings.Join(hashNames(), ", ")+" or none; default sha2-256")
	f.BoolVar(&s.prehashed, "prehashed", false, "the input is the digest, as raw bytes")
	f.BoolVar(&s.local, "digest", false, "make the digest here and send only that: for RSA and ECDSA keys, files of any size")
	f.StringVar(&s.signature, "signature-algorithm", "", "RSA: pss (default) or pkcs1v15")
	f.StringVar(&s.marshaling, "marshaling", "", "ECDSA: asn1 (default) or jws")
	f.StringVar(&s.salt, "salt-length", "", "RSA-PSS: auto (default), hash or a number of bytes")
	f.StringVar(&s.context, "context", "", "context of a derived key")
	complete(cmd, "hash", append(hashNames(), "none")...)
	complete(cmd, "signature-algorithm", "pss", "pkcs1v15")
	complete(cmd, "marshaling", "asn1", "jws")
}

func hashNames() []string { return slices.Sorted(maps.Keys(hashes)) }

// message returns what is sent, and whether it is a digest.
func (a *app) message(cmd *cobra.Command, s *signing) (data []byte, prehashed bool, err error) {
	if !s.local {
		data, err = a.bytes(cmd, &s.in)
		return data, s.prehashed, err
	}
	if s.prehashed {
		return nil, false, usagef("--digest and --prehashed exclude each other: the input is a message or a digest")
	}
	name := s.hash
	if name == "" {
		name = "sha2-256"
	}
	h, ok := hashes[name]
	if !ok {
		return nil, false, usagef("--hash %s: with --digest it must be one of %s", name, strings.Join(hashNames(), ", "))
	}
	r, err := a.open(cmd, &s.in)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	digest := h.New()
	if _, err := io.Copy(digest, r); err != nil {
		return nil, false, fmt.Errorf("read the message: %w", err)
	}
	return digest.Sum(nil), true, nil
}

func (a *app) signCommand() *cobra.Command {
	var s signing
	var version int
	var out string
	cmd := &cobra.Command{
		Use:   "sign NAME",
		Short: "Sign a message with a key",
		Long: `Sign standard input or a file, and print the signature as text ("vault:v1:…").
With --digest the message stays here, and may be of any size.`,
		Example: "  claviger sign release --in claviger.tar.gz --out claviger.sig\n  claviger sign release --digest --in disk.img",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			data, prehashed, err := a.message(cmd, &s)
			if err != nil {
				return err
			}
			r, err := c.Sign(ctx, api.Sign{
				Name: args[0], Input: data, Prehashed: prehashed, HashAlgorithm: s.hash, SignatureAlgorithm: s.signature,
				MarshalingAlgorithm: s.marshaling, SaltLength: s.salt, Context: optional(s.context), KeyVersion: version,
			})
			if err != nil {
				return err
			}
			return a.text(r, r.Signature, out)
		}),
	}
	s.flags(cmd)
	keyVersionFlag(cmd, &version)
	outFlag(cmd, &out)
	return cmd
}

func (a *app) verifyCommand() *cobra.Command {
	var s signing
	var signature, signatureFile, code string
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Verify a signature or an HMAC",
		Long:  "Verify a signature or an HMAC of standard input or a file. The exit status is 0 if it is valid, 1 if not.",
		Example: `  claviger verify release --in claviger.tar.gz --signature-file claviger.sig
  claviger verify data --in log --hmac vault:v1:…`,
		Args: takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			signature, err := signatureOf(signature, signatureFile, code)
			if err != nil {
				return err
			}
			data, prehashed, err := a.message(cmd, &s)
			if err != nil {
				return err
			}
			r, err := c.Verify(ctx, api.Verify{
				Name: args[0], Input: data, Prehashed: prehashed, Signature: signature, HMAC: code, HashAlgorithm: s.hash,
				SignatureAlgorithm: s.signature, MarshalingAlgorithm: s.marshaling, SaltLength: s.salt, Context: optional(s.context),
			})
			if err != nil {
				return err
			}
			return a.showVerified(r)
		}),
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&signature, "signature", "", "the signature, as sign printed it")
	cmd.Flags().StringVar(&signatureFile, "signature-file", "", "file that holds the signature")
	cmd.Flags().StringVar(&code, "hmac", "", "an HMAC instead of a signature")
	return cmd
}

// signatureOf returns the signature, "" if an HMAC was given instead.
func signatureOf(signature, file, code string) (string, error) {
	given := 0
	for _, s := range []string{signature, file, code} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return "", usagef("verify needs one of --signature, --signature-file and --hmac")
	}
	if file == "" {
		return signature, nil
	}
	b, err := readFile(file)
	if err != nil {
		return "", fmt.Errorf("read the signature: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (a *app) showVerified(r *api.Verified) error {
	valid := r.Valid != nil && *r.Valid
	if a.format == "json" {
		if err := a.showJSON(r); err != nil {
			return err
		}
	}
	if !valid {
		return &statusError{exitError, "not valid: the message, the signature or the key is another one"}
	}
	if a.format != "json" {
		fmt.Fprintln(a.out, "valid")
	}
	return nil
}

func (a *app) hmacCommand() *cobra.Command {
	var in input
	var hash, out string
	var version int
	cmd := &cobra.Command{
		Use:     "hmac NAME",
		Short:   "Make a message authentication code",
		Long:    "Make the HMAC of standard input or a file with a key of any type, and print it as text (\"vault:v1:…\").",
		Example: "  claviger hmac data --in log",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			data, err := a.bytes(cmd, &in)
			if err != nil {
				return err
			}
			r, err := c.HMAC(ctx, api.HMAC{Name: args[0], Input: data, Algorithm: hash, KeyVersion: version})
			if err != nil {
				return err
			}
			return a.text(r, r.HMAC, out)
		}),
	}
	in.flags(cmd, "message")
	cmd.Flags().StringVar(&hash, "hash", "", "hash algorithm; default sha2-256")
	complete(cmd, "hash", hashNames()...)
	keyVersionFlag(cmd, &version)
	outFlag(cmd, &out)
	return cmd
}

// optional returns nil for an empty text.
func optional(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
