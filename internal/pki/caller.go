package pki

import (
	"regexp"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
)

// callerRules are what a role allows one caller.
type callerRules struct {
	*api.PKIRole
	own *api.PKIRole // allows the caller's display name; nil if the role does not
}

// rulesFor are the rules of a role for a caller, "" for one without a name.
// Templates in its lists name what the caller's entity is called; there are no
// entities, so an entry with a template allows nothing.
func rulesFor(role *api.PKIRole, displayName string) *callerRules {
	out := &callerRules{PKIRole: role}
	if role.AllowedDomainsTemplate || role.AllowedURISANsTemplate {
		out.PKIRole = withoutTemplates(role)
	}
	if role.AllowTokenDisplayName && displayName != "" {
		out.own = new(*role)
		out.own.AllowedDomains, out.own.AllowBareDomains = []string{displayName}, true
		out.own.AllowLocalhost, out.own.AllowGlobDomains, out.own.AllowAnyName = false, false, false
	}
	return out
}

// allows tells whether the caller may have a DNS name or an e-mail address. A
// display name that is an e-mail address allows that one, and its domain's names
// are not the caller's.
func (r *callerRules) allows(name string) bool {
	if allowsName(r.PKIRole, name) {
		return true
	}
	if r.own == nil {
		return false
	}
	if own := r.own.AllowedDomains[0]; strings.Contains(own, "@") {
		return own == name && (!r.EnforceHostnames || isHostname(own[strings.LastIndex(own, "@")+1:]))
	}
	return !strings.Contains(name, "@") && allowsName(r.own, name)
}

func withoutTemplates(role *api.PKIRole) *api.PKIRole {
	out := *role
	hasTemplate := func(s string) bool { return strings.Contains(s, "{{") }
	if role.AllowedDomainsTemplate {
		out.AllowedDomains = slices.DeleteFunc(slices.Clone(role.AllowedDomains), hasTemplate)
	}
	if role.AllowedURISANsTemplate {
		out.AllowedURISANs = slices.DeleteFunc(slices.Clone(role.AllowedURISANs), hasTemplate)
	}
	return &out
}

// template is one that policies have too (Vault, "Policies", "Templated policies").
var template = regexp.MustCompile(`^\{\{ *identity\.(entity\.(id|name|metadata\.[^{} ]+|aliases\.[^{}. ]+\.(id|name|metadata\.[^{} ]+|custom_metadata\.[^{} ]+))|groups\.(ids|names)\.[^{}. ]+\.(id|name|metadata\.[^{} ]+)) *\}\}`)

// checkTemplates refuses texts that would be templates if they were right.
func checkTemplates(role *api.PKIRole) error {
	for _, f := range []struct {
		name, also string
		on         bool
		list       []string
	}{
		{"allowed_domains", "allowed_domains_template", role.AllowedDomainsTemplate, role.AllowedDomains},
		{"allowed_uri_sans", "allowed_uri_sans_template", role.AllowedURISANsTemplate, role.AllowedURISANs},
	} {
		for _, text := range f.list {
			if err := checkTemplate(f.name, f.also, f.on, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkTemplate(field, also string, on bool, text string) error {
	for rest := text; ; {
		i := strings.Index(rest, "{{")
		if i < 0 {
			return nil
		}
		if !on {
			return invalid("%s has the template %q: set %s", field, text, also)
		}
		m := template.FindString(rest[i:])
		if m == "" {
			return invalid("%s has %q, which is no template; one is written {{identity.entity.name}}", field, text)
		}
		rest = rest[i+len(m):]
	}
}
