package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
)

func (a *app) ceremonyVerifyCommand() *cobra.Command {
	var key, document, dir string
	var text bool
	cmd := &cobra.Command{
		Use:   "verify TRANSCRIPT",
		Short: "Verify the transcript of a ceremony",
		Long: `Verify a transcript without an HSM and without a server: that no line was altered,
dropped or exchanged, that enough custodians confirmed exactly what was signed, and
that the files are the ones that were made. --key says which key must have signed it;
without it the transcript is only proved to be whole, and the key that is shown must
be compared with one that is known. The key is the one that the HSM token of the
ceremony has for transcripts, or the audit key of the server that performed the act
(claviger hsm audit-key). Exit status 1 for a ceremony that failed, too.`,
		Example: "  claviger ceremony verify root.transcript\n  claviger ceremony verify --key transcript-key.pem --document root.yaml root.transcript",
		Args:    takes("TRANSCRIPT"),
		RunE: func(_ *cobra.Command, args []string) error {
			o := ceremony.VerifyOptions{Dir: dir}
			if dir == "" {
				o.Dir = filepath.Dir(args[0])
			}
			var err error
			if o.Key, err = transcriptKey(key); err != nil {
				return err
			}
			if document != "" {
				if o.Document, err = readFile(document); err != nil {
					return fmt.Errorf("read the document: %w", err)
				}
			}
			return a.verifyCeremony(args[0], o, text)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the key that signed: its SHA-256 in hexadecimal, or a file with the public key in PEM")
	cmd.Flags().StringVar(&document, "document", "", "compare with this document")
	cmd.Flags().StringVar(&dir, "dir", "", "where the files that were made are; default is the directory of the transcript")
	cmd.Flags().BoolVar(&text, "text", false, "show what the custodians read, too")
	return cmd
}

// transcriptKey is the SHA-256 of a public key: as given, or of a file.
func transcriptKey(key string) (string, error) {
	digits := strings.ToLower(strings.ReplaceAll(key, ":", ""))
	if b, err := hex.DecodeString(digits); err == nil && (len(b) == sha256.Size || key == "") {
		return digits, nil
	}
	b, err := readFile(key)
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return "", usagef("--key is neither a SHA-256 nor a public key in PEM")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

func (a *app) verifyCeremony(path string, o ceremony.VerifyOptions, text bool) error {
	b, err := readTranscript(path)
	if err != nil {
		return err
	}
	r, err := ceremony.Verify(b, o)
	if err != nil {
		return err
	}
	if text && a.format == "table" {
		if err := a.lines(r.Text); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	if err := a.show(r, func(t *table) { reportTable(t, r) }); err != nil {
		return err
	}
	if !r.KeyCompared && r.SigningKey != "" {
		a.warn("the key is the transcript's own word: compare it with one that is known, or give --key")
	}
	if r.Outcome != ceremony.Done {
		return &statusError{exitError, "the transcript is whole, and the ceremony failed: " + r.Reason}
	}
	return nil
}

func reportTable(t *table, r *ceremony.Report) {
	t.field("Ceremony", r.Kind)
	t.field("Title", r.Title)
	if r.Rehearsal {
		t.field("Rehearsal", "yes: what it made is of no worth")
	}
	t.field("Outcome", r.Outcome)
	t.field("Began", r.Began.Format(time.RFC3339))
	t.field("Ended", r.Ended.Format(time.RFC3339))
	t.field("Document", r.Document.Name+" "+r.Document.SHA256+note(r.DocCompared, ", the same"))
	if r.SigningKey != "" {
		t.field("HSM token", r.Token.Label+", serial "+r.Token.Serial+", "+r.Token.Manufacturer+" "+r.Token.Model)
	}
	reportAct(t, r)
	for _, k := range r.Keys {
		t.field("Key", k.Label+", "+k.Type+note(k.Made, ", made by this ceremony"))
	}
	t.field("Confirmed by", confirmedBy(r))
	for _, x := range r.Exceptions {
		t.field("Exception", x)
	}
	for _, f := range r.Files {
		t.field("File", f.Name+" "+f.SHA256+note(f.Compared, ", the same")+note(!f.Compared, ", not compared"))
	}
	if r.SigningKey == "" {
		t.field("Signed by", "nobody")
	} else {
		t.field("Signed by", "SHA-256 "+r.SigningKey+note(r.KeyCompared, ", the one that was given"))
	}
	for _, s := range r.Approved {
		t.field("Signed by", s.Custodian+", OpenPGP key "+s.Fingerprint+", "+s.Time.Format(time.RFC3339))
	}
	t.field("Tool", r.Tool)
}

// reportAct says what a server did.
func reportAct(t *table, r *ceremony.Report) {
	if r.Server == nil {
		return
	}
	t.field("Server", r.Server.Address+", release "+r.Server.Release)
	s := r.Act
	if s == nil {
		return
	}
	t.field("Cluster", s.Server.ClusterID)
	if len(s.Given) > 0 {
		t.field("Shares given", fmt.Sprintf("%s of the set %s", numbers(s.Given), s.FormerSet))
	}
	if s.Act != api.ActGenerateRoot {
		t.field("New shares", fmt.Sprintf("%d, of which %d open, of the set %s", s.ShareSet.Shares, s.ShareSet.Threshold, s.ShareSet.SetID))
	}
	if len(s.Verified) > 0 {
		t.field("Given back", numbers(s.Verified))
	}
	if s.NewPIN {
		t.field("New PIN", "yes")
	}
	for i, share := range s.Shares {
		t.field(fmt.Sprintf("Share %d", i+1), "encrypted to "+share.For)
	}
	if s.Root != nil {
		t.field("Root token", "encrypted to "+s.Root.For)
	}
	for i, c := range s.ShareSet.Commitments {
		t.field(fmt.Sprintf("Commitment %d", i), fmt.Sprintf("%x", c))
	}
}

func numbers(list []int) string { return strings.Trim(fmt.Sprint(list), "[]") }

// note is text if it applies.
func note(applies bool, text string) string {
	if applies {
		return text
	}
	return ""
}
