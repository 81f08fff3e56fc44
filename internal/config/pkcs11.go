package config

import (
	"fmt"
	"os/user"
	"strconv"
)

// PKCS11Front is the socket for the PKCS#11 module libclaviger-pkcs11.so.
type PKCS11Front struct {
	Front
	// Group owns the socket: a name or a number; "" leaves it to the server's.
	Group string `toml:"group"`
	PKCS11Peers
	Slots []PKCS11Slot `toml:"slot"`
}

// PKCS11Peers says who may connect to a socket, by the kernel's word, besides
// what its permissions say. Both empty: everybody.
type PKCS11Peers struct {
	UIDs []int `toml:"uids"`
	GIDs []int `toml:"gids"`
}

// PKCS11Slot is a slot that programs see.
type PKCS11Slot struct {
	// Label of the slot's token, 1 to 32 bytes.
	Label string `toml:"label"`
	// Mounts are transit engines.
	Mounts []string `toml:"mounts"`
	// Issuers are pki engines, whose certificates of authorities are shown.
	Issuers []string `toml:"issuers"`
}

func defaultPKCS11Front() PKCS11Front {
	return PKCS11Front{Front: Front{Listener: Listener{Address: "unix:/run/claviger/pkcs11.sock"}}}
}

// DefaultPKCS11Slots are those of a configuration that names none.
func DefaultPKCS11Slots() []PKCS11Slot {
	return []PKCS11Slot{{Label: "claviger", Mounts: []string{"transit"}}}
}

func (c *Config) completePKCS11() {
	if f := &c.Front.PKCS11; len(f.Slots) == 0 {
		f.Slots = DefaultPKCS11Slots()
	}
}

func (f *PKCS11Front) validate(p *Problems) {
	const field = "front.pkcs11."
	if _, ok := f.Socket(); !ok {
		p.add(field+"address", f.Address, `"unix:" and the path of a socket`)
	}
	p.pkcs11Group(field+"group", f.Group)
	f.PKCS11Peers.validate(p, field)
	p.pkcs11Slots(field+"slot", f.Slots)
}

func (p *Problems) pkcs11Group(field, group string) {
	if _, err := GroupID(group); err != nil {
		p.add(field, group, "the name or the number of a group of this system")
	}
}

func (u *PKCS11Peers) validate(p *Problems, field string) {
	for _, id := range u.UIDs {
		p.between(field+"uids", int64(id), 0, 1<<32-2)
	}
	for _, id := range u.GIDs {
		p.between(field+"gids", int64(id), 0, 1<<32-2)
	}
}

func (p *Problems) pkcs11Slots(field string, slots []PKCS11Slot) {
	seen := map[string]bool{}
	for i, s := range slots {
		at := fmt.Sprintf("%s[%d].", field, i)
		if !printable(s.Label, 32) || s.Label == "" || seen[s.Label] {
			p.add(at+"label", s.Label, "1 to 32 printable characters, another than that of an earlier slot")
		}
		seen[s.Label] = true
		if len(s.Mounts) == 0 {
			p.addText(at+"mounts", "none", `at least one transit engine such as "transit"`)
		}
		for _, m := range append(append([]string{}, s.Mounts...), s.Issuers...) {
			if m == "" || m == "/" || !printable(m, 200) {
				p.add(at+"mounts", m, `the path of a mount such as "transit"`)
			}
		}
	}
}

// GroupID returns the number of a group, -1 of "".
func GroupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}
