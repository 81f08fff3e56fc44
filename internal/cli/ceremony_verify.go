package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
be compared with one that is known. Exit status 1 for a ceremony that failed, too.`,
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
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the transcript: %w", err)
	}
	defer f.Close()
	b, err := readAtMost(f, ceremony.MaxTranscript)
	if err != nil {
		return fmt.Errorf("read the transcript: %w", err)
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
	if !r.KeyCompared {
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
	t.field("HSM token", r.Token.Label+", serial "+r.Token.Serial+", "+r.Token.Manufacturer+" "+r.Token.Model)
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
	t.field("Signed by", "SHA-256 "+r.SigningKey+note(r.KeyCompared, ", the one that was given"))
	t.field("Tool", r.Tool)
}

// note is text if it applies.
func note(applies bool, text string) string {
	if applies {
		return text
	}
	return ""
}
