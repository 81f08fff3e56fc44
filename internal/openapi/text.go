package openapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
)

const preface = `# API reference

The operations of Claviger, in the form of Vault's HTTP API. This page is made from the table of operations that the
server works with; ` + "`claviger path-help PATH`" + ` and ` + "`GET PATH?help=1`" + ` show the same text, and ` +
	"`claviger openapi`" + ` and
` + "`GET sys/internal/specs/openapi`" + ` give it as an OpenAPI 3.1 document.

All paths are below ` + "`/v1/`" + `. The client token is sent in the header ` + "`X-Vault-Token`" + `, or as
` + "`Authorization: Bearer …`" + `. POST and PUT are the same; LIST is the same as GET with ` + "`?list=true`" + `. Requests are JSON;
numbers, booleans and durations may be strings, a duration is a number of seconds or a text such as ` + "`1h30m`" + `. Unknown fields
are ignored with a warning. Fields that are not sent have their default.

Answers are JSON in Vault's envelope (` + "`request_id`, `lease_id`, `renewable`, `lease_duration`, `data`, `wrap_info`,\n`warnings`, `auth`" +
	`), unless it says "without envelope" here. A failed call answers ` + "`{\"errors\":[…]}`" + `:

`

// Reference returns the API reference of all operations of the table, in
// Markdown.
func Reference(table []*op.Operation) string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("| status | meaning |\n|---|---|\n")
	for _, status := range slices.Sorted(maps.Keys(failures)) {
		fmt.Fprintf(&b, "| %d | %s |\n", status, failures[status].text)
	}
	mounts := DefaultMounts(table)
	for _, mount := range slices.Sorted(maps.Keys(mounts)) {
		fmt.Fprintf(&b, "\n## %s\n\n", mount)
		var ops []*op.Operation
		for _, o := range table {
			if o.Mount == mounts[mount] {
				ops = append(ops, o)
			}
		}
		b.WriteString(Text(ops, mount))
	}
	return b.String()
}

// Text explains operations of one kind at a mount (its path with the trailing
// slash), in Markdown: a section for each path.
func Text(ops []*op.Operation, mount string) string {
	var b strings.Builder
	path := ""
	for _, o := range ops {
		if p := pathOf(mount, o); p != path {
			if path != "" {
				b.WriteByte('\n')
			}
			path = p
			fmt.Fprintf(&b, "### %s\n", path)
			writeParams(&b, o)
		}
		writeOperation(&b, o, path)
	}
	return b.String()
}

func writeParams(b *strings.Builder, o *op.Operation) {
	params := paramsOf(o)
	if len(params) == 0 {
		return
	}
	b.WriteString("\nIn the path:\n\n")
	for _, f := range params {
		writeField(b, f, "")
	}
}

var methods = map[op.Verb]string{op.Read: "GET", op.List: "LIST", op.Write: "POST", op.Delete: "DELETE", op.Patch: "PATCH"}

func writeOperation(b *strings.Builder, o *op.Operation, path string) {
	fmt.Fprintf(b, "\n**%s %s** (`%s`)\n\n%s Needs %s.\n", methods[o.Verb], path, o.Name, o.Help, Capability(o))
	if fields := fieldsOf(o.Request); len(fields) > 0 {
		where := "Body"
		if !o.Verb.HasBody() {
			where = "Query"
		}
		fmt.Fprintf(b, "\n%s:\n\n", where)
		writeFields(b, o.Request, "", nil)
	}
	writeAnswer(b, o)
}

func writeAnswer(b *strings.Builder, o *op.Operation) {
	var codes []string
	for _, status := range Statuses(o) {
		if status != 0 && failures[status].name == "" {
			codes = append(codes, strconv.Itoa(status))
		}
	}
	if is[statused](o.Response) {
		codes = append(codes, "others by state or request")
	}
	fmt.Fprintf(b, "\nAnswer (%s)", strings.Join(codes, ", "))
	t := o.Response
	switch {
	case saysNothing(t):
		b.WriteString(": nothing; 200 if there are warnings.\n")
		return
	case rawType(t) != "":
		fmt.Fprintf(b, ": %s, without envelope.\n", rawType(t))
		return
	case o.Bare:
		b.WriteString(", without envelope")
	case t == reflect.TypeFor[api.Auth]():
		b.WriteString(", in `auth`")
	case t == reflect.TypeFor[api.WrapInfo]():
		b.WriteString(", in `wrap_info`")
	case t == reflect.TypeFor[api.Unwrapped]():
		b.WriteString(", in the envelope")
	case o.TopLevel:
		b.WriteString(", in `data` and beside it")
	default:
		b.WriteString(", in `data`")
	}
	b.WriteString(":\n\n")
	if t.Kind() == reflect.Map {
		fmt.Fprintf(b, "- %s\n", word(t))
	}
	if inner := structIn(t); inner != nil {
		indent := ""
		if t.Kind() == reflect.Map {
			indent = "  "
		}
		writeFields(b, inner, indent, nil)
	}
}

// writeFields lists the members of a struct, and below each the members of what
// it holds. Types that hold themselves are listed once.
func writeFields(b *strings.Builder, t reflect.Type, indent string, outer []reflect.Type) {
	outer = append(outer, t)
	for _, f := range fieldsOf(t) {
		writeField(b, f, indent)
		if inner := structIn(f.typ); inner != nil && !slices.Contains(outer, inner) {
			writeFields(b, inner, indent+"  ", outer)
		}
	}
}

func writeField(b *strings.Builder, f field, indent string) {
	fmt.Fprintf(b, "%s- `%s` %s", indent, f.name, word(f.typ))
	if f.doc != "" {
		fmt.Fprintf(b, ": %s", f.doc)
	}
	if len(f.enum) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(f.enum, ", "))
	}
	b.WriteByte('\n')
}
