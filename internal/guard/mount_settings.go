package guard

import (
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const (
	// visibleToAll is the listing visibility of mounts that sys/internal/ui/mounts
	// shows to callers without a client token.
	visibleToAll = "unauth"
	// tokenTypeOfMount is what the auth mount of client tokens makes.
	tokenTypeOfMount = "default-service"

	maxSettings    = 64  // entries of a list or of the options
	maxSettingText = 256 // bytes of an entry
)

// begin sets what the maker of a mount says of it beside its type.
func (m *mountRecord) begin(c *op.Call, f *api.NewMountFlags) error {
	byDefault, err := leaseTTL("config.default_lease_ttl", f.Config.DefaultLeaseTTL)
	if err != nil {
		return err
	}
	longest, err := leaseTTL("config.max_lease_ttl", f.Config.MaxLeaseTTL)
	if err != nil {
		return err
	}
	if err := checkSettings(&f.Config.MountSettings); err != nil {
		return err
	}
	if err := m.setTTL(byDefault, longest); err != nil {
		return err
	}
	if err := m.addOptions(f.Options); err != nil {
		return err
	}
	m.Local, m.SealWrap, m.EntropyAccess = f.Local, f.SealWrap, f.ExternalEntropyAccess
	m.set(&f.Config.MountSettings)
	names := settingsWithoutEffect(&f.Config.MountSettings, len(f.Options) > 0)
	for name, given := range map[string]bool{"local": f.Local, "seal_wrap": f.SealWrap, "external_entropy_access": f.ExternalEntropyAccess} {
		if given {
			names = append(names, name)
		}
	}
	warnWithoutEffect(c, names)
	return nil
}

// addOptions sets the options that are given, or removes those given as empty;
// others stay.
func (m *mountRecord) addOptions(given map[string]string) error {
	if len(given) == 0 {
		return nil
	}
	options := maps.Clone(m.Options)
	if options == nil {
		options = map[string]string{}
	}
	for name, value := range given {
		if len(name) > maxSettingText || len(value) > maxSettingText {
			return fault.New(fault.Invalid, "options: names and values have at most %d bytes", maxSettingText)
		}
		if value == "" {
			delete(options, name)
			continue
		}
		options[name] = value
	}
	if len(options) > maxSettings {
		return fault.New(fault.Invalid, "options would have %d entries; at most %d are kept", len(options), maxSettings)
	}
	m.Options = options
	return nil
}

// checkSettings refuses values that mean something to Vault which is not so here.
func checkSettings(s *api.MountSettings) error {
	if v := s.ListingVisibility; v != nil && *v != "" && *v != "hidden" && *v != visibleToAll {
		return fault.New(fault.Invalid, "listing_visibility is %.40q; it must be unauth, hidden or empty", *v)
	}
	if v := s.TokenType; v != nil && *v != "" && *v != tokenTypeOfMount {
		return fault.New(fault.Invalid, "token_type is %.40q; it must be %s: who makes a client token chooses its type", *v, tokenTypeOfMount)
	}
	if v := s.PluginVersion; v != nil && *v != "" {
		return fault.New(fault.Invalid, "plugin_version is %.40q; it must be empty: engines are parts of this program and have its version", *v)
	}
	for _, l := range settingLists(s) {
		if len(*l.list) > maxSettings {
			return fault.New(fault.Invalid, "%s has %d entries; at most %d are kept", l.name, len(*l.list), maxSettings)
		}
		for _, text := range *l.list {
			if len(text) > maxSettingText {
				return fault.New(fault.Invalid, "%s: an entry has %d bytes; at most %d are kept", l.name, len(text), maxSettingText)
			}
		}
	}
	return nil
}

type settingList struct {
	name string
	list *[]string
}

func settingLists(s *api.MountSettings) []settingList {
	return []settingList{
		{"audit_non_hmac_request_keys", &s.AuditNonHMACRequestKeys},
		{"audit_non_hmac_response_keys", &s.AuditNonHMACResponseKeys},
		{"passthrough_request_headers", &s.PassthroughRequestHeaders},
		{"allowed_response_headers", &s.AllowedResponseHeaders},
		{"allowed_managed_keys", &s.AllowedManagedKeys},
	}
}

// set changes the settings that are given.
func (m *mountRecord) set(given *api.MountSettings) {
	var s api.MountSettings
	if m.Settings != nil {
		s = *m.Settings
	}
	if given.ForceNoCache != nil {
		s.ForceNoCache = given.ForceNoCache
	}
	if given.ListingVisibility != nil {
		s.ListingVisibility = given.ListingVisibility
	}
	lists := settingLists(&s)
	for i, l := range settingLists(given) {
		if *l.list != nil {
			*lists[i].list = *l.list
		}
	}
	m.Settings = &s
}

// showSettings adds what was set to the tuning that callers see.
func showSettings(s *api.MountSettings, c *api.MountConfig) {
	if s.ForceNoCache != nil {
		c.ForceNoCache = *s.ForceNoCache
	}
	if s.ListingVisibility != nil {
		c.ListingVisibility = *s.ListingVisibility
	}
	c.AuditNonHMACRequestKeys, c.AuditNonHMACResponseKeys = s.AuditNonHMACRequestKeys, s.AuditNonHMACResponseKeys
	c.PassthroughRequestHeaders, c.AllowedResponseHeaders = s.PassthroughRequestHeaders, s.AllowedResponseHeaders
	c.AllowedManagedKeys = s.AllowedManagedKeys
}

// visibleWithoutToken tells whether callers without a client token may know of it.
func (m *mountRecord) visibleWithoutToken() bool {
	return m.Settings != nil && m.Settings.ListingVisibility != nil && *m.Settings.ListingVisibility == visibleToAll
}

// settingsWithoutEffect names what was given and only kept.
func settingsWithoutEffect(s *api.MountSettings, options bool) []string {
	var names []string
	for _, l := range settingLists(s) {
		if len(*l.list) > 0 {
			names = append(names, l.name)
		}
	}
	if s.ForceNoCache != nil && *s.ForceNoCache {
		names = append(names, "force_no_cache")
	}
	if options {
		names = append(names, "options")
	}
	return names
}

func warnWithoutEffect(c *op.Call, names []string) {
	if len(names) > 0 {
		slices.Sort(names)
		c.Warn("kept and shown, without an effect on this server: %s", strings.Join(names, ", "))
	}
}
