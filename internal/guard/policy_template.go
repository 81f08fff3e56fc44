package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const templateWanted = "use identity.entity.{id, name, metadata.KEY, aliases.ACCESSOR.{id, name, metadata.KEY, custom_metadata.KEY}} " +
	"or identity.groups.{ids.ID, names.NAME}.{id, name, metadata.KEY}"

// withoutTemplates checks the templates of a rule's path, {{…}}, and returns the
// path with a letter in the place of each, so that the rest can be checked.
//
// Templates name what a client token's entity and groups are called (Vault,
// "Policies", "Templated policies"). What the maker of a token chooses freely,
// such as its metadata, is no template: a caller could give its children the
// rights of others.
func withoutTemplates(path string) (string, error) {
	var plain strings.Builder
	for {
		before, rest, found := strings.Cut(path, "{{")
		if strings.Contains(before, "}}") {
			return "", errors.New("unbalanced templating characters: }} without {{")
		}
		plain.WriteString(before)
		if !found {
			return plain.String(), nil
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed || strings.Contains(inside, "{{") {
			return "", errors.New("unbalanced templating characters: {{ without }}")
		}
		if err := checkTemplate(strings.TrimSpace(inside)); err != nil {
			return "", err
		}
		plain.WriteByte('x')
		path = after
	}
}

// checkTemplate checks what stands between the braces.
func checkTemplate(text string) error {
	parts := strings.Split(text, ".")
	if slices.Contains(parts, "") || len(parts) < 3 || parts[0] != "identity" || !knownTemplate(parts[1:]) {
		return fmt.Errorf("unknown template {{%s}}: %s", text, templateWanted)
	}
	return nil
}

func knownTemplate(parts []string) bool {
	switch {
	case parts[0] == "entity" && parts[1] == "aliases" && len(parts) > 3:
		return knownProperty(parts[3:], "id", "name", "metadata", "custom_metadata")
	case parts[0] == "entity":
		return knownProperty(parts[1:], "id", "name", "metadata")
	case parts[0] == "groups" && (parts[1] == "ids" || parts[1] == "names") && len(parts) > 3:
		return knownProperty(parts[3:], "id", "name", "metadata")
	}
	return false
}

// knownProperty tells whether parts are one of names, of which those with
// "metadata" are followed by a key, which may have dots.
func knownProperty(parts []string, names ...string) bool {
	return slices.Contains(names, parts[0]) && (len(parts) > 1) == strings.HasSuffix(parts[0], "metadata")
}
