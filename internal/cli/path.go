package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// pathCommands are the commands that reach every operation of the API, those
// without a command of their own too.
func (a *app) pathCommands() []*cobra.Command {
	return []*cobra.Command{
		a.pathCommand("read", http.MethodGet, "Read a path of the API", "  claviger read transit/keys/app\n  claviger read pki/config/crl"),
		a.pathListCommand(),
		a.pathWriteCommand("write", http.MethodPost, "Write to a path of the API",
			"  claviger write pki/config/est enabled=true default_path_policy=role:sensor\n  claviger write pki/config/urls --in urls.json\n  claviger write transit/encrypt/app plaintext=@message.b64"),
		a.pathWriteCommand("patch", http.MethodPatch, "Change fields of what a path of the API holds",
			"  claviger patch pki/roles/web ttl=24h"),
		a.pathCommand("delete", http.MethodDelete, "Delete what a path of the API holds", "  claviger delete pki/roles/web"),
		a.pathHelpCommand(),
	}
}

const aboutPaths = ` "claviger path-help PATH" and the API reference say
what a path is for and what it takes. Where a command exists for it, that one
checks more before it asks the server.`

func (a *app) pathCommand(name, method, short, example string) *cobra.Command {
	return &cobra.Command{
		Use:     name + " PATH",
		Short:   short,
		Long:    short + "." + aboutPaths,
		Example: example,
		Args:    takes("PATH"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			return a.send(ctx, c, method, args[0], nil)
		}),
	}
}

func (a *app) pathListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list PATH",
		Short:   "List what is below a path of the API",
		Long:    "List what is below a path of the API." + aboutPaths,
		Example: "  claviger list transit/keys\n  claviger list pki/roles",
		Args:    takes("PATH"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			answer, err := c.Send(ctx, "LIST", args[0], nil)
			if e, ok := errors.AsType[*api.Error](err); ok && e.Status == http.StatusNotFound && len(e.Errors) == 0 {
				answer, err = &api.Envelope{Data: json.RawMessage(`{"keys":[]}`)}, nil // the wire's way to say so
			}
			if err != nil {
				return err
			}
			var names api.Keys
			if a.format == "json" || answer == nil || json.Unmarshal(answer.Data, &names) != nil {
				return a.showAnswer(answer)
			}
			return a.showNames(names.Keys)
		}),
	}
}

func (a *app) pathWriteCommand(name, method, short, example string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   name + " PATH [FIELD=VALUE...]",
		Short: short,
		Long: short + "." + aboutPaths + `

A field is given as FIELD=VALUE, a text that the server reads as the field's
type; as FIELD=@FILE, the content of a file without its last line break; as
FIELD=-, standard input; or as FIELD:=JSON. --in takes all of them from a file
with a JSON object; fields that are given overrule it. Others can read arguments:
give a secret by file or standard input.`,
		Example: example,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			body, err := a.fields(file, args[1:])
			if err != nil {
				return err
			}
			return a.send(ctx, c, method, args[0], body)
		}),
	}
	cmd.Flags().StringVar(&file, "in", "", "file with a JSON object of fields; - is standard input")
	return cmd
}

func (a *app) send(ctx context.Context, c *client.Client, method, path string, body any) error {
	answer, err := c.Send(ctx, method, path, body)
	if err != nil {
		return err
	}
	return a.showAnswer(answer)
}

// fields makes a request's body of a file and arguments.
func (a *app) fields(file string, args []string) (map[string]json.RawMessage, error) {
	body := map[string]json.RawMessage{}
	if file != "" {
		text, err := a.content(file)
		if err != nil {
			return nil, fmt.Errorf("read the fields: %w", err)
		}
		if err := json.Unmarshal(text, &body); err != nil {
			return nil, usagef("%s: the fields are a JSON object, and this is none: %v", file, err)
		}
	}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		asJSON := strings.HasSuffix(name, ":")
		if name = strings.TrimSuffix(name, ":"); !ok || name == "" {
			return nil, usagef("%.80q is no field; one is written FIELD=VALUE, FIELD=@FILE, FIELD=- or FIELD:=JSON", arg)
		}
		text := []byte(value)
		if from, is := strings.CutPrefix(value, "@"); is || value == "-" {
			if value == "-" {
				from = "-"
			}
			var err error
			if text, err = a.content(from); err != nil {
				return nil, fmt.Errorf("read the field %s: %w", name, err)
			}
			text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		}
		if !asJSON {
			text, _ = json.Marshal(string(text))
		} else if !json.Valid(text) {
			return nil, usagef("the field %s is no JSON; a text is given as %s=VALUE", name, name)
		}
		body[name] = text
	}
	return body, nil
}

// content is a file's content, or that of standard input, which is "-".
func (a *app) content(file string) ([]byte, error) {
	if file == "-" {
		return readAtMost(a.in, maxInput)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, maxInput)
}

// showAnswer prints an answer: all of it as JSON, or the fields of its data.
func (a *app) showAnswer(answer *api.Envelope) error {
	switch {
	case answer == nil:
		a.say("Done.")
		return nil
	case a.format == "json":
		return a.showJSON(answer)
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(answer.Data, &data) != nil || data == nil {
		if len(answer.Data) == 0 || string(answer.Data) == "null" {
			return a.showJSON(answer)
		}
		return a.showJSON(answer.Data)
	}
	var long []string
	err := a.show(answer, func(t *table) {
		for _, name := range slices.Sorted(maps.Keys(data)) {
			if value := plain(data[name]); strings.Contains(value, "\n") {
				long = append(long, name+"\n"+value)
			} else {
				t.field(name, value)
			}
		}
	})
	for _, text := range long {
		err = errors.Join(err, a.lines(text))
	}
	return err
}

// plain is a JSON value as a cell: texts without their quotes.
func plain(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}
